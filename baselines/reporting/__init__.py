"""The report of a finished comparison: a page, figures, and tables for other programs."""
