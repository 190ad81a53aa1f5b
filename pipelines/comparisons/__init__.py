"""Methods beside each other: cells, schedule, tables, pictures."""
