"""What makes the code of kernels."""
