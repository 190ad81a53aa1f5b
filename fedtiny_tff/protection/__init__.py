"""What a client may learn and break: privacy, secure sums, robust means, bad clients."""
