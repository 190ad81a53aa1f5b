"""A dataset: found, looked at, shared out among clients, kept on disk."""
