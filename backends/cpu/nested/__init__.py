"""Programs within a step: a batch that goes through layers sample by sample."""
