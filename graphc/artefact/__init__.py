"""A model as one file to ship, `model.gcm`: plans, packed weights and machine code. `build` writes it where the compiler is, `load`
runs it where there is NumPy alone."""
