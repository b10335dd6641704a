"""Where random numbers begin."""
