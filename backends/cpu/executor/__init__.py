"""The loops that walk a program's table, and its entry from Python."""
