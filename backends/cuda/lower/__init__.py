"""The context of lowering for the GPU."""
