"""Operators: a record each, found by graphc/op.py."""
