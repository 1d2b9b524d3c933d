"""This process: its place among others, its progress, its memory."""
