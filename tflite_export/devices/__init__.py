"""The target `device_client`: the client of a federated round, with code around it."""
