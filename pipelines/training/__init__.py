"""From data to the final model: selection, rounds, quantisation."""
