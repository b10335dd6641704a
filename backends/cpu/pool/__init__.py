"""Pools: the maximum or the mean of a window."""
