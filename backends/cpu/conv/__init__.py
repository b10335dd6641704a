"""Convolutions: algorithms and how one is chosen, packed filters, windows."""
