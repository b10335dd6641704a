"""Linear algebra beyond products."""
