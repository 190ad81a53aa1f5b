"""A finished run of the main job, and what it left, read back."""

import csv
import functools
import io
import json
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from tests.pipelines import support


class FinishedRun:
  """A run of the main job that ended in a process of its own.

  Attributes:
    path: Its directory.
    app: The process that made it.
    arguments: Its command line.
  """

  def __init__(
    self, path: pathlib.Path, app: support.App, arguments: tuple[str, ...]
  ) -> None:
    self.path = path
    self.app = app
    self.arguments = arguments

  @property
  def report(self) -> dict[str, Any]:
    """Returns `report.json`, as it is now."""
    return json.loads((self.path / "report.json").read_text())

  @functools.cached_property
  def masks(self) -> dict[str, np.ndarray]:
    """Returns the mask of every prunable layer."""
    with np.load(self.path / "model" / "masks.npz") as masks:
      return dict(masks)

  @functools.cached_property
  def model(self) -> tf.keras.Model:
    """Returns the model that was saved."""
    return tf.keras.models.load_model(
      self.path / "model" / "model.keras", compile=False
    )

  def rows(self, name: str = "metrics.csv") -> list[dict[str, str]]:
    """Returns the rows of a table."""
    return list(csv.DictReader(io.StringIO((self.path / name).read_text())))

  def column(self, column: str, name: str = "metrics.csv") -> list[str]:
    """Returns a column of a table."""
    return [row[column] for row in self.rows(name)]

  def tensorboard_steps(self) -> dict[str, list[int]]:
    """Returns at which steps each tag was written."""
    [path] = (self.path / "tensorboard").glob("events.*")
    steps: dict[str, list[int]] = {}
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      for value in event.summary.value:
        steps.setdefault(value.tag, []).append(event.step)
    return steps


def make(folder: pathlib.Path, name: str, *arguments: str) -> FinishedRun:
  """Runs the main job to its end.

  Args:
    folder: Where its directory and its output are made.
    name: Of the directory.
    arguments: Its command line without the directory.
  """
  path = folder / name
  command = (*arguments, f"--output_dir={path}")
  app = support.App(folder, "run", *command)
  assert app.wait() == 0, app.stderr
  return FinishedRun(path, app, command)
