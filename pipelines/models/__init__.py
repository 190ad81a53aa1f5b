"""A run's model, what it costs, and the density that fits a device."""
