"""TFLite's model metadata: what is written into a file, and read back."""
