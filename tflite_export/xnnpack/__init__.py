"""Which operators XNNPACK runs sparsely, and why not."""
