"""A round: client work, what is added up, the server's step, the bytes of it all."""
