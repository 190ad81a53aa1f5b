"""Model builders: one dict from name to builder, and what pruning needs of each.

Ring 0. A builder returns a plain Keras model with logits as output; which of its
layers are pruned and how they group into blocks is a `ModelDefinition`.
"""
