"""A run directory: states, metrics, the final model, where it came from."""
