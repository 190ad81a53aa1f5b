"""Sums of which nobody sees the summands: secure sums, noise, sparse votes."""
