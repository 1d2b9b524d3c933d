"""Decode items by their semantic IDs; this folder needs no other package of its author.

It is copied into an export, and imported from there.
"""
