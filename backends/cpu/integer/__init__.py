"""Convolutions and pools of bytes, whose channels are innermost in memory."""
