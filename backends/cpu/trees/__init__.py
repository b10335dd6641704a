"""Forests of decision trees, tables of numbers, probabilities coupled of pairs."""
