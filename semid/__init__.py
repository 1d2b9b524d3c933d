"""Semantic IDs: from item text to codes, one trie over them, and decoding within it."""
