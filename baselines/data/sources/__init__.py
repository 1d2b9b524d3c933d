"""Readers of data in the formats people have, which return tables of items and events."""
