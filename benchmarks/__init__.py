"""Measurements of speed, memory and bytes; `make bench` runs them all.

Nothing here asserts a time: each benchmark prints a table of figures measured side by
side in one run and writes them to `benchmarks/results/NAME.json`.
"""

import logging
import os

# TensorFlow's chatter would stand between the tables.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("tensorflow").setLevel(logging.ERROR)
