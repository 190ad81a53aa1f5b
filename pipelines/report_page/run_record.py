"""A run directory, read into plain values; what it lacks is empty, not an error."""

import csv
import dataclasses
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from fedtiny_tff.errors import InputError
from pipelines.apps import damage, files
from pipelines.report_page import numbers
from pipelines.runs import run_directory
from tflite_export import file_sizes
from tflite_export.xnnpack import eligibility
from tflite_export.xnnpack.eligibility_report import Report

# Far above any model of this product; a hostile file could ask for terabytes.
_MOST_WEIGHTS = 1 << 28


@dataclasses.dataclass(frozen=True)
class Round:
  """A round's figures; None where nothing was measured.

  Attributes:
    number: From 0.
    train_loss: Mean over the clients' examples.
    train_accuracy: Likewise.
    eval_loss: On the clients' held-out parts.
    eval_accuracy: Likewise.
    bytes_up: What a client sent.
    bytes_down: What a client received.
    epsilon: What privacy came to.
    block: What was adjusted, None without an event.
  """

  number: int
  train_loss: Optional[float]
  train_accuracy: Optional[float]
  eval_loss: Optional[float]
  eval_accuracy: Optional[float]
  bytes_up: Optional[float]
  bytes_down: Optional[float]
  epsilon: Optional[float]
  block: Optional[int]


@dataclasses.dataclass(frozen=True)
class File:
  """An exported file.

  Attributes:
    row: Its row in `report.json`.
    sizes: What its bytes are spent on; None where it cannot be read.
    eligible: The eligibility report; None for other files than Android's, and where
      it cannot be read.
    problem: Why it cannot be read; empty if it can.
  """

  row: Mapping[str, Any]
  sizes: Optional[file_sizes.FileSizes] = None
  eligible: Optional[Report] = None
  problem: str = ""

  @property
  def name(self) -> str:
    """Its path without the folder that all have."""
    return str(self.row["path"]).removeprefix("export/")


@dataclasses.dataclass(frozen=True)
class RunRecord:
  """What a page is made from.

  Attributes:
    report: `report.json`.
    rounds: `metrics.csv`.
    dense_rounds: `metrics_dense.csv`.
    clients: Name, examples and hits of `clients.csv`.
    client_labels: Client, label and examples of `client_labels.csv`.
    confusion: Label, answer and examples of `confusion.csv`.
    masks: Layer name to bool array, of `model/masks.npz`.
    files: What was exported.
    flags: Lines of `run.flags`.
  """

  report: Mapping[str, Any]
  rounds: tuple[Round, ...] = ()
  dense_rounds: tuple[Round, ...] = ()
  clients: tuple[tuple[str, int, int], ...] = ()
  client_labels: tuple[tuple[str, int, int], ...] = ()
  confusion: tuple[tuple[int, int, int], ...] = ()
  masks: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  files: tuple[File, ...] = ()
  flags: tuple[str, ...] = ()

  @property
  def has_classes(self) -> bool:
    """Whether the model classifies."""
    return bool(self.report["task"] == "classify")

  @property
  def is_hidden(self) -> bool:
    """Whether clients' reports are hidden, so that no page may tell of single ones."""
    return bool(self.report.get("privacy") or self.report.get("secure_aggregation"))

  @property
  def quality(self) -> Mapping[str, Any]:
    """Accuracy, or AUC, by model and file."""
    key = "accuracy" if self.has_classes else "auc_by_model"
    return dict(self.report[key])

  @property
  def quality_name(self) -> str:
    """What quality is called."""
    return "accuracy" if self.has_classes else "AUC"


def read(
  run: run_directory.RunDirectory, report: Optional[Mapping[str, Any]] = None
) -> RunRecord:
  """Reads a run directory.

  Args:
    run: The directory.
    report: What its `report.json` holds; None reads it.

  Raises:
    InputError: When it holds no run, or a file of it is damaged.
  """
  report = run.read_report() if report is None else report
  dense = run.path / "metrics_dense.csv"
  return RunRecord(
    report=report,
    rounds=tuple(map(_round, _rows(run.metrics))),
    dense_rounds=tuple(map(_round, _rows(dense))),
    clients=tuple(
      (row["client"], _whole(row["examples"]), _whole(row["correct"]))
      for row in _rows(run.clients, "client", "examples", "correct")
    ),
    client_labels=tuple(
      (row["client"], _whole(row["label"]), _whole(row["examples"]))
      for row in _rows(run.client_labels, "client", "label", "examples")
    ),
    confusion=tuple(
      (_whole(row["label"]), _whole(row["answer"]), _whole(row["examples"]))
      for row in _rows(run.confusion, "label", "answer", "examples")
    ),
    masks=_masks(run.model / "masks.npz"),
    files=tuple(_file(run.path, row) for row in report["artifacts"]),
    flags=_lines(run.flags),
  )


def _lines(path: pathlib.Path) -> tuple[str, ...]:
  if not path.is_file():
    return ()
  return tuple(path.read_text(errors="replace").splitlines())


def _rows(path: pathlib.Path, *columns: str) -> list[dict[str, str]]:
  """Reads a CSV file; one that is not there has no rows."""
  if not path.is_file():
    return []
  try:
    with path.open(newline="", encoding="utf-8") as file:
      reader = csv.DictReader(file, restval="")
      rows = [{str(key): value for key, value in row.items()} for row in reader]
      missing = {*columns} - {*(reader.fieldnames or ())}
      if missing:
        raise ValueError(f"column {sorted(missing)[0]} is missing")
      for name in columns:
        for row in rows:
          if name not in ("client",):
            _whole(row[name])
  except (csv.Error, ValueError) as error:
    raise InputError(
      f"{path}: cannot be read ({error}); restore it, or delete it to do without"
    ) from error
  return rows


def _whole(text: str) -> int:
  number = int(text)
  if not 0 <= number < 1 << 53:
    raise ValueError(f"{text[:20]!r} is no count")
  return number


def _round(row: Mapping[str, str]) -> Round:
  block = _number(row.get("adjusted_block"))
  return Round(
    number=int(_number(row.get("round")) or 0),
    train_loss=_number(row.get("train_loss")),
    train_accuracy=_number(row.get("train_accuracy")),
    eval_loss=_number(row.get("eval_loss")),
    eval_accuracy=_number(row.get("eval_accuracy")),
    bytes_up=_number(row.get("bytes_up_per_client")),
    bytes_down=_number(row.get("bytes_down_per_client")),
    epsilon=_number(row.get("epsilon")),
    block=None if block is None else int(block),
  )


def _number(text: Optional[str]) -> Optional[float]:
  """Returns a finite number; a diverged loss is as good as none."""
  try:
    value = float(text or "nan")
  except ValueError:
    return None
  return value if numbers.is_number(value) else None


def _masks(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads masks; they are absent where nothing was pruned or they were deleted."""
  if not path.is_file():
    return {}
  try:
    with zipfile.ZipFile(path) as archive:
      if sum(entry.file_size for entry in archive.infolist()) > _MOST_WEIGHTS:
        raise ValueError(f"it unpacks to more than {_MOST_WEIGHTS} bytes")
    with np.load(path, allow_pickle=False) as stored:
      masks = {name: stored[name] for name in stored.files}
    for name, mask in masks.items():
      if mask.dtype != bool or not mask.ndim or not mask.size:
        raise ValueError(f"mask {name!r} is {mask.dtype}{list(mask.shape)}")
  except damage.ARCHIVE as error:
    raise InputError(
      f"{path}: cannot be read ({error}); restore it, or delete it to do without"
    ) from error
  return masks


def _file(folder: pathlib.Path, row: Mapping[str, Any]) -> File:
  """Measures an exported file, which may have been deleted or replaced since."""
  path = folder / row["path"]
  # A report may come from anybody: it must not make us read elsewhere.
  if not files.is_inside(path, folder):
    return File(row, problem="lies outside the run directory")
  try:
    content = path.read_bytes()
    is_android = row["target"] == "android"
    return File(
      row,
      file_sizes.measure(content),
      eligibility.inspect(content) if is_android else None,
    )
  except OSError:
    return File(row, problem="is not there any more")
  except InputError as error:
    return File(row, problem=f"cannot be read: {error}")


def layer_counts(report: Mapping[str, Any]) -> Sequence[tuple[int, int, int]]:
  """Returns size, unpruned weights at first and in the end of every layer.

  Each adjustment tells what it dropped and grew, which leads back to the first mask.
  """
  moved: dict[str, int] = {}
  for event in report["events"]:
    for layer in event["layers"]:
      gained = layer["grown"] - layer["dropped"]
      moved[layer["name"]] = moved.get(layer["name"], 0) + gained
  found = []
  for layer in report["layers"]:
    size = int(np.prod(layer["shape"], dtype=np.int64))
    after = round(layer["density"] * size)
    found.append((size, after - moved.get(layer["name"], 0), after))
  return found
