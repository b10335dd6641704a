"""The argument blocks of drivers: each is declared once, in a module free of Numba. A lowering writes it by names, its driver
reads it by names."""
