"""A client that is a device: its plan, its messages and tasks, its shuffles in NumPy."""
