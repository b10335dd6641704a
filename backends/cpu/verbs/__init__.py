"""The verbs of graphc/lower on the CPU: copies, elementwise rows, passes, positions from data, order."""
