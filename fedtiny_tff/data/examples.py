"""What a dataset is: labelled examples in two splits, perhaps with owners."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple, Optional, Union

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError

TRAIN = "train"
TEST = "test"
SPLITS = (TRAIN, TEST)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
  """Static facts about a dataset.

  Attributes:
    name: Key of `SOURCES`.
    shape: Shape of one example's features as they are stored, which is that of the
      model's input.
    feature_type: NumPy type name of stored features: "uint8" or "float32".
    class_names: One per label.
    preprocessing: How raw examples become stored features, and these model inputs.
    columns: Of a table: those whose numbers, row after row and the oldest row first,
      are a raw example; () where it comes from no table.
  """

  name: str
  shape: tuple[int, ...]
  feature_type: str
  class_names: tuple[str, ...]
  preprocessing: Preprocessing
  columns: tuple[str, ...] = ()

  @property
  def num_classes(self) -> int:
    """Number of labels."""
    return len(self.class_names)


class Batch(NamedTuple):
  """Examples of one split, in a row.

  Attributes:
    features: [n, *shape] of the stored type.
    labels: int64 [n], in [0, classes).
    clients: Who owns each example, str [n]; None where the source does not say.
  """

  features: Array
  labels: Array
  clients: Optional[Array] = None


@dataclasses.dataclass(frozen=True)
class BadRecord:
  """An example that cannot be used.

  Attributes:
    file: Where it stands.
    record: Which one it is in there: a number from 0, or a key; None where the file
      itself is the record.
    field: Which part of it is bad; None for all of it.
    reason: What is wrong, with the value found.
  """

  file: str
  record: Union[int, str, None]
  field: Optional[str]
  reason: str

  def __str__(self) -> str:
    """Returns where the record is and why it cannot be used, on one line."""
    where = self.file
    where += "" if self.record is None else f", record {self.record}"
    where += "" if self.field is None else f", field {self.field}"
    return f"{where}: {self.reason}"


# Told of every bad record in its place; raises where reading is to stop.
OnBadRecord = Callable[[BadRecord], None]


def fail_on_bad_record(record: BadRecord) -> None:
  """Stops at the first bad record.

  Raises:
    InputError: Always, naming it.
  """
  raise InputError(f"{record}; mend it, or leave such out with --on_bad_record=skip")


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A dataset that can be streamed any number of times, in a fixed order.

  Attributes:
    info: Static facts.
    read: Starts a pass over a split ("train" or "test"), in batches of any size.
      Examples that cannot be used are left out of them and told to the second
      argument.
    has_clients: Whether batches name the owners of their examples.
    measures_inputs: Whether mean and deviation of the model's inputs are still to be
      measured, over the training split; those in `info` then count for nothing.
    overlap: How many of the next examples of the same label and owner may share raw
      values with an example, as overlapping windows of a signal do.
    notes: What a person should know of how it was read, a sentence each.
  """

  info: DatasetInfo
  read: Callable[[str, OnBadRecord], Iterator[Batch]]
  has_clients: bool = False
  measures_inputs: bool = False
  overlap: int = 0
  notes: tuple[str, ...] = ()
