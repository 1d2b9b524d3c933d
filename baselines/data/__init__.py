"""Data: interactions, splits, sequences and a synthetic world."""
