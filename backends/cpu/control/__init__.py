"""Control flow: If, Loop and Scan as steps that run programs of their own."""
