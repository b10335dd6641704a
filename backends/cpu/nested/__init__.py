"""Programs within a step: a batch that goes through layers image by image."""
