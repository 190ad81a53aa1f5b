"""Text that several targets write beside their files."""
