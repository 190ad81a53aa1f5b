"""Which weights are active: masks, how many of each layer, when they move, how they travel."""
