"""Forests of decision trees, tables of numbers, distances from vectors, probabilities coupled of pairs."""
