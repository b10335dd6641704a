"""Attention of several heads: products around a softmax, in one kernel."""
