"""Command-line apps: the only package that reads flags, and a run's files.

May import everything in `fedtiny_tff` and `tflite_export`; nothing imports it.
Modules import TensorFlow inside functions wherever `--help` must stay quick.
"""

import importlib.util
import sys

if importlib.util.find_spec("absl") is None:
  # Before any command can end in a traceback: most started the wrong Python.
  print(
    f"absl-py is not installed for {sys.executable}: run `make setup`, then activate its "
    "environment with `. .venv/bin/activate`",
    file=sys.stderr,
  )
  raise SystemExit(2)
