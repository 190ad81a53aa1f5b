"""Hands datasets of the user's to the clients of a round.

TFF would send a dataset within the request; it then lives in the driver, in the request
and in the worker at once. Here each client's examples are written to a temporary file,
once a round, and clients read their own from there, as in the pipelines: the worker must
run on this machine, or share its temporary folder.

A client is known by its place in the list: with the seed and the round it seeds what is
random in the client's training.
"""

import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.arrays import Array
from fedtiny_tff.data import client_store
from fedtiny_tff.data.client_store import ClientReference, ClientStore
from fedtiny_tff.data.examples import Batch, DatasetInfo
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import definition, keras_graphs

ClientDatasets = Union[Sequence[tf.data.Dataset], tff.simulation.datasets.ClientData]

# Examples read at a time from datasets that hold them one by one.
_READ_BATCH = 256
_PARTS = ("x", "y")
_UNCHANGED = Preprocessing(1.0, (0.0,), (1.0,))


def datasets_of(clients: ClientDatasets) -> Iterator[Any]:
  """Goes through the clients' datasets; of TFF's ClientData, in the order of its ids.

  Raises:
    InputError: When it is one dataset instead of one for each client.
  """
  if isinstance(clients, tff.simulation.datasets.ClientData):
    return map(clients.create_tf_dataset_for_client, clients.client_ids)
  if isinstance(clients, tf.data.Dataset | str | bytes | Mapping):
    raise InputError(
      f"clients are one {type(clients).__name__}; give a list with a tf.data.Dataset for "
      "each client"
    )
  return iter(clients)


class ClientFeed:
  """The file that a round's clients read."""

  def __init__(
    self,
    model_definition: definition.ModelDefinition,
    scratch_dir: Optional[str] = None,
  ):
    """Makes a temporary folder, which goes with this object.

    Args:
      model_definition: Which model is fed.
      scratch_dir: Where to make it; None for the system's.
    """
    self._shape, self._classes = _ends(model_definition)
    self._folder = tempfile.TemporaryDirectory(
      prefix="fedtiny-clients-", dir=scratch_dir, ignore_cleanup_errors=True
    )
    names = tuple(map(str, range(self._classes or 0)))
    info = DatasetInfo("clients", self._shape, "float32", names, _UNCHANGED)
    path = pathlib.Path(self._folder.name) / "clients.tfrecord"
    # Clients are found by their references, however many records a round has.
    self.store = ClientStore(str(path), info, 0)

  @property
  def dataset_type(self) -> tff.SequenceType:
    """Type of what one client has: batches of inputs and labels."""
    inputs = tff.TensorType(np.float32, [None, *self._shape])
    return tff.SequenceType((inputs, tff.TensorType(np.int64, [None])))

  def write(
    self, clients: ClientDatasets, *, held_out: bool = False
  ) -> list[ClientReference]:
    """Puts the examples of all clients into the file, in place of those before.

    Args:
      clients: A dataset for each client, see `read`; those without an example take no
        part.
      held_out: Whether clients are to be evaluated on them instead of trained.

    Returns:
      Where the clients with examples find them; their number is the place in the list.

    Raises:
      InputError: When there is no example at all, or one does not fit the model.
    """
    references = []
    first = 0
    path = pathlib.Path(self.store.path)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
      for number, dataset in enumerate(datasets_of(clients)):
        count = 0
        for batch in self.read(f"client {number}", dataset):
          file.write(client_store.framed_records(batch, self.store.info))
          count += len(batch.labels)
        parts = (0, count) if held_out else (count, 0)
        if count:
          row = (number, first, *parts)
          references.append(ClientReference(*map(np.int64, row)))
        first += count
    os.replace(fresh, path)
    if not references:
      raise InputError("no client has an example; give datasets that hold some")
    return references

  def read_all(
    self, who: str, dataset: Optional[tf.data.Dataset]
  ) -> tuple[Array, Array]:
    """Returns all inputs and labels of a dataset, see `read`; of None, there are none."""
    batches = [] if dataset is None else list(self.read(who, dataset))
    nothing = np.zeros((0, *self._shape), np.float32), np.zeros(0, np.int64)
    features, labels = zip(
      nothing, *((b.features, b.labels) for b in batches), strict=True
    )
    return np.concatenate(features), np.concatenate(labels)

  def read(self, who: str, dataset: Any) -> Iterator[Batch]:
    """Goes through a dataset once.

    Args:
      who: What it is called in errors.
      dataset: Elements are (inputs, labels), or mappings with `x` and `y`, one example or
        a batch each; a model without classes needs no labels.

    Raises:
      InputError: When examples do not fit the model, or are not finite.
    """
    if not isinstance(dataset, tf.data.Dataset):
      raise InputError(
        f"{who}: got {type(dataset).__name__}; give a tf.data.Dataset of (inputs, labels)"
      )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
      raise InputError(
        f"{who}: never ends; leave repeat() out, as the plan says how many epochs there are"
      )
    spec, _ = self._parts(who, dataset.element_spec)
    if spec.shape.rank == len(self._shape):
      dataset = dataset.batch(_READ_BATCH)
    spec, _ = self._parts(who, dataset.element_spec)
    if not spec.shape[1:].is_compatible_with(self._shape) or spec.dtype == tf.string:
      raise InputError(
        f"{who}: inputs are {spec.dtype.name} {spec.shape}; the model takes numbers of "
        f"shape {self._shape}, one example or a batch at a time"
      )
    for element in dataset:
      features, labels = self._parts(who, element)
      inputs = np.asarray(features, np.float32)
      if inputs.shape[1:] != self._shape:
        raise InputError(
          f"{who}: has inputs of shape {list(inputs.shape[1:])}; give numbers of shape "
          f"{list(self._shape)}"
        )
      if not np.isfinite(inputs).all():
        raise InputError(
          f"{who}: has inputs that are infinite or no number; leave such examples out"
        )
      yield Batch(inputs, self._labels(who, labels, len(inputs)))

  def _parts(self, who: str, element: Any) -> tuple[Any, Any]:
    """Returns inputs and labels, or their specs; None for labels of no use."""
    if isinstance(element, Mapping):
      parts = [element[name] for name in _PARTS if name in element]
    elif isinstance(element, tuple | list):
      parts = list(element)
    else:
      parts = [element]
    flat = all(isinstance(part, tf.Tensor | tf.TensorSpec) for part in parts)
    least = 1 if self._classes is None else 2
    if not flat or not least <= len(parts) <= 2:
      raise InputError(
        f"{who}: elements are {_told(element)}; let them be (inputs, labels) or mappings "
        "with x and y"
      )
    return parts[0], None if self._classes is None else parts[1]

  def _labels(self, who: str, labels: Any, count: int) -> Array:
    """Returns int64 labels [count]; zeros where there are no classes."""
    if labels is None:
      return np.zeros(count, np.int64)
    found = np.asarray(labels)
    if found.dtype.kind not in "iu" or found.size != count:
      raise InputError(
        f"{who}: labels are {found.dtype} {list(found.shape)} of {count} examples; they "
        "must be whole numbers, one for each example"
      )
    if count and not 0 <= found.min() <= found.max() < (self._classes or 0):
      raise InputError(
        f"{who}: labels go from {found.min()} to {found.max()}, the model has classes 0 "
        f"to {(self._classes or 0) - 1}"
      )
    return found.reshape(count).astype(np.int64)


@keras_graphs.sparing_eager_models()
def _ends(
  model_definition: definition.ModelDefinition,
) -> tuple[tuple[int, ...], Optional[int]]:
  """Returns a model's input shape, and its number of classes, if it has any."""
  with tf.Graph().as_default():
    model = model_definition.build()
  shape = tuple(model.inputs[0].shape.as_list()[1:])
  outputs = int(model.outputs[0].shape[-1])
  return shape, outputs if model_definition.task.has_classes else None


def _told(element: Any) -> str:
  """Says what elements of a dataset are."""
  if isinstance(element, Mapping):
    return f"mappings with {', '.join(sorted(map(str, element))) or 'nothing'}"
  if isinstance(element, tuple | list):
    return f"{len(element)} parts"
  return type(element).__name__
