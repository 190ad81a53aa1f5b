"""What a round costs a device: floating-point operations, memory, bytes."""
