"""What is the same in equal runs."""

import csv
import io
import json
import pathlib
from typing import Any

from tests.pipelines import support

# The only columns of `metrics.csv` that differ between equal runs.
_VARYING = ("seconds", "rss_mb")


def results(path: pathlib.Path) -> dict[str, Any]:
  """Returns what must repeat: every file that is not a log of times, and the figures."""
  rows = list(csv.DictReader(io.StringIO((path / "metrics.csv").read_text())))
  kept = [{k: v for k, v in row.items() if k not in _VARYING} for row in rows]
  report = json.loads((path / "report.json").read_text())
  report.pop("seconds")
  content: dict[str, Any] = dict(support.snapshot(path))
  for name in ("metrics.csv", "report.json", "model/model.keras"):
    del content[name]
  logs = [name for name in content if name.startswith("tensorboard")]
  states = [name for name in content if name.startswith("state/sparse/")]
  for name in (*logs, *states):
    del content[name]
  return content | {"metrics.csv": kept, "report.json": report}
