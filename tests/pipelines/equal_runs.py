"""What is the same in equal runs."""

import csv
import io
import json
import pathlib
from typing import Any

from tests.pipelines import support

# The only columns of `metrics.csv` that differ between equal runs.
VARYING = ("seconds", "cpu_seconds", "rss_mb")


def results(path: pathlib.Path) -> dict[str, Any]:
  """Returns what must repeat: every file that is not a log of times, and the figures."""
  rows = list(csv.DictReader(io.StringIO((path / "metrics.csv").read_text())))
  kept = [_repeating(row) for row in rows]
  lines = [_repeating(json.loads(line)) for line in _lines(path / "metrics.jsonl")]
  report = json.loads((path / "report.json").read_text())
  report.pop("seconds")
  content: dict[str, Any] = dict(support.snapshot(path))
  for name in ("metrics.csv", "metrics.jsonl", "report.json", "model/model.keras"):
    del content[name]
  logs = [name for name in content if name.startswith("tensorboard")]
  states = [name for name in content if name.startswith("state/sparse/")]
  for name in (*logs, *states):
    del content[name]
  return content | {
    "metrics.csv": kept, "metrics.jsonl": lines, "report.json": report,
  }  # fmt: skip


def _repeating(row: dict[str, Any]) -> dict[str, Any]:
  return {name: value for name, value in row.items() if name not in VARYING}


def _lines(path: pathlib.Path) -> list[str]:
  return path.read_text().splitlines()
