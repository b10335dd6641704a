"""Operators that read between the pixels of images, at positions that come from data."""
