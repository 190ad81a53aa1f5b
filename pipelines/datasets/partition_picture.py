"""A picture of who holds how many examples of which class."""

import io
from typing import Optional

import numpy as np

from pipelines.datasets.data_folder import RunData

_DOTS_PER_INCH = 100


def draw(data: RunData) -> Optional[bytes]:
  """Draws the clients, or of many some of every size, as PNG.

  Returns:
    The file's bytes; None for data without classes.
  """
  # Imported late: only trackers that show pictures need it.
  from pipelines.datasets import data_figures

  classes = data.info.num_classes
  if not classes:
    return None
  sizes = data.references[:, 2:].sum(axis=1)
  drawn = data_figures.drawn_clients(sizes).tolist()
  counts = np.array([_label_counts(data, client) for client in drawn], np.int64)
  names = [data_figures.label(data.client_ids[client]) for client in drawn]
  figure = data_figures.heat_map(counts, names, data.info, len(sizes))
  content = io.BytesIO()
  with data_figures.unknown_letters_as_boxes():
    figure.savefig(
      content, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None}
    )
  return content.getvalue()


def _label_counts(data: RunData, client: int) -> np.ndarray:
  """Counts the labels that a client holds, its held-out part too, int64 [classes]."""
  where = data.reference(client)
  records = data.clients.read(
    where.first_record, where.training_examples + where.development_examples
  )
  labels = data.clients.labels(records).numpy()
  return np.bincount(labels, minlength=data.info.num_classes)
