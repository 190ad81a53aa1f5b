"""From a model to verified files."""
