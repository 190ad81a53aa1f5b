"""A run's metrics by round, as CSV and for TensorBoard."""

import csv
import io
import pathlib
from typing import Any, Optional

import tensorflow as tf

from pipelines import files

COLUMNS = (
  "round", "train_loss", "train_accuracy", "eval_loss", "eval_accuracy", "density",
  "clients", "reports", "excluded", "attempts", "seconds", "rss_mb", "bytes_up_per_client", "bytes_down_per_client",
  "secure_extra_bytes", "epsilon", "adjusted_block",
)  # fmt: skip


def to_csv(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
  """Renders rows as CSV with a header."""
  text = io.StringIO()
  writer = csv.DictWriter(text, columns, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()


class MetricsLog:
  """Keeps `metrics.csv` and `tensorboard/` equal to the rounds finished.

  The CSV is written anew each time, so that it is whole after a kill. TensorBoard
  files can only be appended to: a continued run starts them over from its rows.
  """

  def __init__(self, csv_path: pathlib.Path, tensorboard: pathlib.Path):
    """Names the files.

    Args:
      csv_path: The CSV file.
      tensorboard: Folder for event files.
    """
    self._csv_path = csv_path
    self._tensorboard = tensorboard
    self._writer: Optional[tf.summary.SummaryWriter] = None
    self._written = 0

  def write(self, rows: list[dict[str, Any]]) -> None:
    """Brings both up to date with all rows of the phase."""
    files.write_text(self._csv_path, to_csv(COLUMNS, rows))
    if self._writer is None:
      if self._tensorboard.is_dir():
        for old in self._tensorboard.glob("events.*"):
          old.unlink()
      self._writer = tf.summary.create_file_writer(str(self._tensorboard))
    with self._writer.as_default():
      for row in rows[self._written :]:
        for name in COLUMNS[1:]:
          if row[name] != "":
            tf.summary.scalar(name, row[name], step=row["round"])
    self._written = len(rows)
    self._writer.flush()
