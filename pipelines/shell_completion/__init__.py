"""Completion of commands, flags and values in shells."""
