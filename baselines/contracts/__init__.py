"""What others implement: a backbone, and a scorer of items."""
