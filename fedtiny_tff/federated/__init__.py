"""TFF wiring: the only modules that import TensorFlow Federated.

Ring 2. `messages` says what travels, `rounds` composes a round once for every
strategy, `selection` the two exchanges of adaptive BN selection, `evaluation` the
clients' held-out evaluation, `runtime` the local worker.
"""
