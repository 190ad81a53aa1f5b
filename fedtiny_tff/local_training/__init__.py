"""What a client does: batches, optimisers, training, also with quantisation."""
