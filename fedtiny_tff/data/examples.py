"""What a dataset is: named examples, split in train and test."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """From stored features to model inputs: (features * scale - mean) / deviation.

  Attributes:
    scale: Factor that brings stored features near [0, 1].
    mean: Per channel (last axis) or a single value, after scaling.
    deviation: Likewise; positive.
  """

  scale: float
  mean: tuple[float, ...]
  deviation: tuple[float, ...]

  def apply(self, features: np.ndarray) -> np.ndarray:
    """Preprocesses features [..., channels] with NumPy; returns float32."""
    scaled = features.astype(np.float32) * np.float32(self.scale)
    mean = np.asarray(self.mean, np.float32)
    return (scaled - mean) / np.asarray(self.deviation, np.float32)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
  """Static facts about a dataset.

  Attributes:
    name: Key of `SOURCES`.
    shape: Shape of one example's features.
    feature_type: NumPy type name of stored features: "uint8" or "float32".
    class_names: One per label.
    preprocessing: How stored features become model inputs.
  """

  name: str
  shape: tuple[int, ...]
  feature_type: str
  class_names: tuple[str, ...]
  preprocessing: Preprocessing

  @property
  def num_classes(self) -> int:
    """Number of labels."""
    return len(self.class_names)


Example = tuple[np.ndarray, int]


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A dataset that can be streamed any number of times, in a fixed order.

  Attributes:
    info: Static facts.
    labels: Labels of the training split, int64 [N].
    train: Starts a pass over the training split's (features, label).
    test: Starts a pass over the test split's (features, label).
  """

  info: DatasetInfo
  labels: np.ndarray
  train: Callable[[], Iterator[Example]]
  test: Callable[[], Iterator[Example]]
