"""Which models stand in one comparison, and its table."""
