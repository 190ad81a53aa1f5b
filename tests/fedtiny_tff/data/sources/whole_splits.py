"""Reads a split of a dataset to its end, as plain lists."""

from typing import Any

from fedtiny_tff.data.examples import BadRecord, Dataset


def read(
  dataset: Dataset, split: str = "train"
) -> tuple[list[Any], list[int], list[str], list[str]]:
  """Returns features, labels, clients and what was bad."""
  bad: list[BadRecord] = []
  batches = list(dataset.read(split, bad.append))
  features = [example.tolist() for batch in batches for example in batch.features]
  labels = [int(label) for batch in batches for label in batch.labels]
  clients = [str(c) for b in batches if b.clients is not None for c in b.clients]
  return features, labels, clients, [str(record) for record in bad]
