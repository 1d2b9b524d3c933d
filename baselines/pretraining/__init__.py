"""A small language model of one's own, trained from nothing."""
