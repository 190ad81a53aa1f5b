"""Rounds whose clients are devices: the exchange, its gateway, the device itself."""
