"""Products with weights that are decoded in registers."""
