"""The choice among candidates by their loss after batch-norm statistics were renewed."""
