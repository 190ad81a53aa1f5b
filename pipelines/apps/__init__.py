"""How commands start, end, show progress and write files; nothing of federated learning."""
