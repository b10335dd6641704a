"""Products of integers of 8 bits."""
