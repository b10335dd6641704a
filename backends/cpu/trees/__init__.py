"""Forests of decision trees."""
