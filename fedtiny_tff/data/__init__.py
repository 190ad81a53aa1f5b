"""Data: sources, partitions over clients, and reading one client's records.

Ring 0. A *source* yields labelled examples once; they are written, grouped by
client, into one file of fixed-length records (`client_store`). A round carries
only where a client's records lie; whoever computes for the client reads them.
"""
