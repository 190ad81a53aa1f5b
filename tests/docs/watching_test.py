"""The page about watching a run tells of what there is to watch."""

import re

from pipelines.runs import metrics_log
from tests.docs import snippets


def test_every_column_of_metrics_is_told():
  text = (snippets.ROOT / "docs/watching.md").read_text(encoding="utf-8")
  section = text.split("## Rounds: `metrics.csv`")[1].split("\n## ")[0]
  cells = [
    line.split("|")[1] for line in section.splitlines() if line.startswith("| `")
  ]
  told = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
  assert sorted(told) == sorted(metrics_log.COLUMNS)
