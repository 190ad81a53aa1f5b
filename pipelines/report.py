"""Writes `report.html`: a run, or several beside each other, as one page."""

from typing import Optional

from absl import flags

from pipelines.apps import app

_SUMMARY = """
Writes a page with everything there is to see of a run: accuracies, curves, masks, sizes,
memory. One file that loads nothing from anywhere; runs write it themselves when they end.
Of several runs, it shows them beside each other.

  python -m pipelines.report runs/digits
  python -m pipelines.report runs/fedtiny runs/prunefl --output_file=both.html

Runs are only read; nothing is computed again.
"""

_ARGUMENT = "RUN …"
_OUTPUT_FILE = flags.DEFINE_string(
  "output_file",
  None,
  "Where to write the page; report.html in the run's folder by default, of several runs "
  "comparison.html here.",
)


def main(*folders: str) -> Optional[int]:
  """Writes the page and says where."""
  from pipelines.report_page import writing

  print(writing.written(list(folders), _OUTPUT_FILE.value))
  return None


if __name__ == "__main__":
  groups = {"Output": ["output_file"]}
  app.leave(app.run_app(main, _SUMMARY, groups, arguments=[_ARGUMENT], goes_on=False))
