"""A model as a C library: a header, and a shared object with one function."""
