"""Preparation of events: what is left out of a log before it is split."""
