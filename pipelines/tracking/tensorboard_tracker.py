"""`tensorboard/`: curves, histograms and pictures as TensorBoard's event files.

Event files can only be appended to: a continued run starts them over.
"""

from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from pipelines.tracking import base


class TensorBoard:
  """Writes events; each call is on the disk when it returns."""

  def __init__(self) -> None:
    """Begins without a file."""
    self._writer: Optional[tf.summary.SummaryWriter] = None

  def begin(self, subject: base.Subject) -> None:
    """Starts the files over, with candidates and the picture of the partition."""
    folder = subject.folder / "tensorboard"
    if subject.phase != "sparse":
      folder /= subject.phase
    if folder.is_dir():
      for old in folder.glob("events.*"):
        old.unlink()
    self._writer = tf.summary.create_file_writer(str(folder))
    with self._writer.as_default():
      for row in subject.candidates:
        for figure in ("loss", "accuracy"):
          if row[figure] != "":
            tf.summary.scalar(f"candidate_{figure}", row[figure], step=row["candidate"])
      picture = subject.partition()
      if picture is not None:
        pixels = tf.io.decode_png(picture, channels=3)
        tf.summary.image("label_by_client", pixels[tf.newaxis], step=0)
    self._writer.flush()

  def tell(self, rounds: Sequence[base.Round]) -> None:
    """Adds curves; densities of layers where they may have changed."""
    assert self._writer is not None
    with self._writer.as_default():
      for told in rounds:
        for name, value in told.scalars.items():
          tf.summary.scalar(name, value, step=told.number)
        for name, count in told.moved.items():
          tf.summary.scalar(f"mask_change/{name}", count, step=told.number)
        if told.number == 0 or told.change:
          densities = list(told.densities.values())
          tf.summary.histogram("layer_densities", densities, step=told.number)
    self._writer.flush()

  def finish(self, is_done: bool) -> None:
    """Closes the file."""
    if self._writer is not None:
      self._writer.close()


def make() -> base.Tracker:
  """Returns a new tracker."""
  return TensorBoard()
