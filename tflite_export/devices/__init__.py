"""The target `device`: the client of a federated round, with code around it."""
