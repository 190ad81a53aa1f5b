"""TFF wiring: all that a program without files and flags needs of TensorFlow Federated.

Ring 2. `messages` says what travels, `training_rounds` composes a round once for every
strategy, `adaptive_selection` the two exchanges of adaptive BN selection, `evaluation`
the clients' held-out evaluation; `runtimes` are where it runs.
"""
