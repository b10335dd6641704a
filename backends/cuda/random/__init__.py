"""Seeds of random numbers."""
