"""LiteRT and TFLM: running files, and comparing them with what they were made of."""
