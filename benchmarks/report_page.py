"""How long `report.html` takes to make and to open, and how large it is.

`python -m benchmarks.report_page`. Opening is measured in headless Chromium, from asking
for the file to its `load` event, the best of three; without Chromium it is null.
"""

import pathlib
import shutil
import tempfile
import time
from typing import Any, Optional

from benchmarks import made_runs, results_file
from pipelines.report_page import writing
from pipelines.runs.run_directory import RunDirectory

_SHAPES = (
  made_runs.Shape(rounds=60, layers=5, clients=10),
  made_runs.Shape(rounds=300, layers=50, clients=100),
  made_runs.Shape(
    rounds=2_000, layers=200, clients=10_000, classes=1_000, candidates=100
  ),
)
_TIMES = 3


def _seconds_to_open(page: pathlib.Path) -> Optional[float]:
  """Returns how long a browser takes, None without one."""
  browser = shutil.which("chromium")
  try:
    from playwright.sync_api import sync_playwright
  except ModuleNotFoundError:
    return None
  if browser is None:
    return None
  times = []
  with sync_playwright() as playwright:
    opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
    for _ in range(_TIMES):
      view = opened.new_page()
      began = time.perf_counter()
      view.goto(page.as_uri(), wait_until="load")
      times.append(time.perf_counter() - began)
      view.close()
    opened.close()
  return min(times)


def _measure(folder: pathlib.Path, shape: made_runs.Shape) -> dict[str, Any]:
  run = RunDirectory(made_runs.make(folder / f"{shape.rounds}", shape))
  began = time.perf_counter()
  writing.write(run)
  return {
    "rounds": shape.rounds,
    "layers": shape.layers,
    "clients": shape.clients,
    "classes": shape.classes,
    "seconds_to_write": time.perf_counter() - began,
    "page_bytes": run.page.stat().st_size,
    "seconds_to_open": _seconds_to_open(run.page),
  }


def main() -> None:
  """Measures every shape, after one that warms up."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    writing.write(
      RunDirectory(made_runs.make(folder / "warm", made_runs.Shape(3, 1, 1)))
    )
    rows = [_measure(folder, shape) for shape in _SHAPES]
  results_file.publish("report_page", rows)


if __name__ == "__main__":
  main()
