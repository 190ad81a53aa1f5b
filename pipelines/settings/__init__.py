"""Flags, and the checked configuration that they make."""
