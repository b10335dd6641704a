"""Memory, launches, runs."""
