"""The version of the product, which `pyproject.toml` reads from here."""

VERSION = "0.2.0"
