"""Backbones: generators that write the next item as a short path of tokens."""
