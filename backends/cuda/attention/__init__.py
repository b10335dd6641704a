"""Attention of several heads, whose scores are never in memory."""
