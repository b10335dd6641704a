"""Channels of images in another order."""
