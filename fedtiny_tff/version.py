"""The version of the product, which `pyproject.toml` reads from here."""

VERSION = "0.1.0"
