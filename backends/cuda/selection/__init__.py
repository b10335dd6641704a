"""Operators that select by data: how much they give only running can tell (see graphc/bounded.py)."""
