"""Tools for working on the checkout; no part of the product, which never imports it."""
