"""What a model consists of: its layers and blocks, its channels, what it computes."""
