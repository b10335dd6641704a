"""Register tiles: how rows and channels are cut into them, what one is worth, and the code of their inner step."""
