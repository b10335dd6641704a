"""Operators on channels in blocks, and reorders to and from them."""
