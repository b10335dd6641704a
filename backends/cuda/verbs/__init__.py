"""The verbs of graphc/lower/verbs.py: copies, maps, passes, ordered axes, positions."""
