"""Rounds of training with quantisation, and the ranges of activations."""
