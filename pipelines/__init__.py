"""Command-line apps: the only package that reads flags and touches files.

May import everything in `fedtiny_tff` and `tflite_export`; nothing imports it.
Modules import TensorFlow inside functions wherever `--help` must stay quick.
"""
