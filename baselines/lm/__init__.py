"""Pieces of language-model recommenders: the base, its adapters, its tokens and its prompts."""
