"""Token-level Collaborative Alignment (TCA4Rec, arXiv:2601.18457)."""
