"""Comparisons: their models, tables and statistics."""
