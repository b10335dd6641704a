"""Control flow: If, Loop and Scan as jumps in the program. Whether to jump says a byte on the device, which the host reads."""
