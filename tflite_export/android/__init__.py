"""The target `android`: files for LiteRT, a model card, code to read and feed them."""
