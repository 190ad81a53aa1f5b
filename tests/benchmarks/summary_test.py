"""The README's measurements are those of the committed results, and all can be repeated."""

import importlib
import pathlib
import re

import pytest

from benchmarks import results_file, summary

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _benchmarks() -> list[str]:
  makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
  found = re.search(r"^BENCH \?= (.*)$", makefile, re.MULTILINE)
  assert found
  return found[1].split()


def test_the_readme_holds_the_table():
  readme = (ROOT / "README.md").read_text()
  assert summary.markdown() in readme
  assert summary.provenance() in readme


def test_other_machines_and_commits_are_named(monkeypatch):
  found = {
    "wire": results_file.Results("ab12", "A", 2, 1.0, []),
    "memory": results_file.Results("ab12+", "B", 8, 0.1, []),
    "android": results_file.Results("ab12", "A", 2, 2.0, []),
  }
  monkeypatch.setattr(results_file, "read", found.__getitem__)
  monkeypatch.setattr(summary, "LINES", tuple((name, "", str) for name in found))
  assert summary.provenance() == (
    "Measured on 2 cores of A and 8 cores of B, at commit `ab12` and `ab12+`."
  )


@pytest.mark.parametrize("name", _benchmarks())
def test_each_benchmark_can_be_run_and_has_results(name):
  assert callable(importlib.import_module(f"benchmarks.{name}").main)
  rows = results_file.read(name).rows
  assert rows
  assert len({tuple(row) for row in rows}) == 1


@pytest.mark.parametrize(
  ("name", "keys"),
  [
    (
      "round_throughput",
      {"model", "tff_images_per_second", "plain_images_per_second", "ratio"},
    ),
    ("population", {"clients", "seconds_per_round", "rss_mb"}),
  ],
)
def test_rows_have_the_promised_keys(name, keys):
  assert keys <= set(results_file.read(name).rows[0])


def test_the_table_names_only_benchmarks_that_make_bench_runs():
  assert {line[0] for line in summary.LINES} <= set(_benchmarks())
