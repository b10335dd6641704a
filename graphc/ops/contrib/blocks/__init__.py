"""Weights of 2, 4 or 8 bits in blocks, each with a scale."""
