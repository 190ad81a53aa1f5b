"""Compiles what is exported for microcontrollers."""
