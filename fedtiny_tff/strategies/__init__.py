"""Pruning methods: one file per method, holding only what differs from the base.

Ring 1: imports ring 0, never TensorFlow Federated. `registry.STRATEGIES` names
them.
"""
