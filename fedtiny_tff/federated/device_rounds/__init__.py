"""Rounds and selection whose client work was done elsewhere and arrives as messages."""
