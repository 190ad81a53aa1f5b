"""What the closing tables show."""

import io
import platform
import re

import pytest
import rich.console

from pipelines.exports import artifact_table
from tests.pipelines.handmade_reports import artifact

DENSE = artifact("export/android/fp32_dense.tflite", format="fp32_dense")
SPARSE = artifact("export/android/fp32_sparse.tflite")


def _shown(rows, has_classes=True, models=(), width=160, **more):
  stream = io.StringIO()
  console = rich.console.Console(file=stream, width=width)
  artifact_table.show("a title", models, rows, has_classes, console, **more)
  return stream.getvalue()


def _latency(median):
  return {
    "threads": 2,
    "runs": 9,
    "median_seconds": median,
    "p90_seconds": 1.5 * median,
  }


def _line(text, start):
  (line,) = (line for line in text.splitlines() if line.startswith(f"│ {start} "))
  return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_row_a_model_and_a_file():
  rows = [SPARSE, artifact("export/mcu/m.tflite", arena_bytes=9_000)]
  text = _shown(rows, models=[("dense model", "97.50 %", "100.00 %", "1,000", "")])
  assert "a title" in text
  assert _line(text, "dense model")[1:4] == ["97.50 %", "100.00 %", "1,000"]
  lines = [line for line in text.splitlines() if "fp32_sparse" in line]
  assert "87.50 %" in lines[0]
  assert "27,532" in lines[0]
  assert "9,000" in lines[1]


def test_what_reconstructs_has_an_area():
  text = _shown([artifact("export/mcu/m.tflite", auc=0.25)], has_classes=False)
  assert "AUC" in text
  assert "0.2500" in text
  assert "accuracy" not in text


@pytest.mark.parametrize(
  ("width", "columns"),
  [
    (40, {"what", "accuracy", "bytes"}),
    (80, {"what", "accuracy", "density", "bytes", "of dense", "arena"}),
    (
      160,
      {
        "what",
        "accuracy",
        "density",
        "bytes",
        "dense bytes",
        "of dense",
        "arena",
        "file",
      },
    ),
  ],
)
def test_columns_are_those_there_is_room_for(width, columns):
  rows = [
    artifact("export/android/d.tflite", format="dynamic_range_sparse"),
    artifact("export/mcu/m.tflite", target="mcu", format="int8_decode"),
  ]
  lines = _shown(rows, width=width).splitlines()
  assert max(map(len, lines)) <= width
  heading = next(line for line in lines if "what" in line)
  assert {each.strip() for each in re.split(r"\s{2,}|┃", heading)} - {""} == columns
  # No name is broken.
  assert any("dynamic_range_sparse" in line for line in lines)
  assert any(line.split() == ["mcu"] for line in lines) == (width < 120)


def test_a_file_is_measured_by_its_dense_twin():
  row = artifact("export/mcu/m.tflite", bytes=250, dense_bytes=1000)
  assert "25.0 %" in _shown([row])


def test_without_latencies_there_is_one_table():
  assert "median" not in _shown([DENSE, SPARSE])


def test_latencies_are_compared_with_the_twins():
  rows = [DENSE | {"latency": _latency(3e-3)}, SPARSE | {"latency": _latency(2e-3)}]
  table = _shown(rows).split("one inference")[1]
  assert "2 thread(s), 9 runs" in table
  assert _line(table, "fp32_dense") == ["fp32_dense", "3.000", "4.500", ""]
  assert _line(table, "fp32_sparse") == ["fp32_sparse", "2.000", "3.000", "1.50"]


@pytest.mark.parametrize(("machine", "warned"), [("x86_64", True), ("aarch64", False)])
def test_x86_is_warned_of(monkeypatch, machine, warned):
  monkeypatch.setattr(platform, "machine", lambda: machine)
  text = _shown([DENSE | {"latency": _latency(1e-3)}])
  assert ("XNNPACK runs sparse kernels on ARM only" in text) == warned


@pytest.mark.parametrize(
  ("has_classes", "figures", "told"),
  [
    (True, {"accuracy": 0.875}, " (accuracy 87.50 %)"),
    (True, {"accuracy": None}, ""),
    (False, {"auc": 0.5}, " (AUC 0.5000)"),
  ],
)
def test_the_file_to_ship_is_named_in_a_line(has_classes, figures, told):
  rows = [DENSE, SPARSE | {"recommended": True} | figures]
  (line,) = (
    line
    for line in _shown(rows, has_classes, folder="runs/[b]", width=40).splitlines()
    if line.startswith("Ship: ")
  )
  assert line == (
    f"Ship: runs/[b]/{SPARSE['path']}{told}; model_card.md beside it says why"
  )
  # Reports of earlier versions do not know it.
  assert "Ship" not in _shown([DENSE, SPARSE])


def test_files_of_an_earlier_export_are_not_shown():
  earlier = artifact("export/mcu/m.tflite", format="int8_decode")
  text = _shown([SPARSE, earlier], targets=["android"])
  assert "int8_decode" not in text
  assert text.endswith("Exported earlier, and not shown: mcu\n")
  assert "earlier" not in _shown([SPARSE, earlier], targets=["android", "mcu"])
  assert "int8_decode" in _shown([SPARSE, earlier])


def test_nothing_is_a_dash():
  assert (artifact_table.percent(None), artifact_table.decimal(None)) == ("-", "-")
