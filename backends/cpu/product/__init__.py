"""Matrix products: packed panels, bytes, Strassen's algorithm."""
