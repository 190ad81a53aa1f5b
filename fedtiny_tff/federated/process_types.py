"""Type signatures of the learning process."""

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff import tasks
from fedtiny_tff.federated import states
from fedtiny_tff.masked_models import keras_layout


def _scalar(dtype: type) -> tff.TensorType:
  return tff.TensorType(dtype)


def metrics_type(task: tasks.Task, layers: int) -> tff.Type:
  """Type of a round's metrics, in the groups of TFF's own processes.

  Args:
    task: Of the model.
    layers: Number of its prunable layers.

  Returns:
    `distributor` and `aggregator`: payload of each client, and how many reports count
    or why not; `client_work`: means over the examples that clients trained on;
    `finalizer`: what became of the mask. `adjusted_block` is -1 without adjustment.
  """
  train = ["loss", *(["accuracy"] if task.has_classes else []), "num_examples"]
  verdicts = ("accepted", "not_finite", "wrong_count", "outlandish")
  ordered = collections.OrderedDict
  return tff.types.to_type(
    ordered(
      distributor=ordered(bytes_per_client=_scalar(np.int64)),
      client_work=ordered(train=ordered((name, _scalar(np.float32)) for name in train)),
      aggregator=ordered(
        [(name, _scalar(np.int32)) for name in verdicts],
        bytes_per_client=_scalar(np.int64),
      ),
      finalizer=ordered(
        density=_scalar(np.float32),
        dropped=_scalar(np.int32),
        grown=_scalar(np.int32),
        adjusted_block=_scalar(np.int32),
        layer_density=tff.TensorType(np.float32, [layers]),
      ),
    )
  )


class ProcessTypes:
  """All signatures.

  Attributes:
    initialize: ( -> state@SERVER).
    next: (state@SERVER, {dataset}@CLIENTS to LearningProcessOutput).
    get_model_weights: (state to ModelWeights).
    set_model_weights: (state, ModelWeights to state).
  """

  def __init__(
    self,
    state: states.ServerState,
    layout: keras_layout.KerasLayout,
    dataset_type: tff.SequenceType,
    task: tasks.Task,
    layers: int,
  ):
    """Derives them.

    Args:
      state: Any state of the process.
      layout: Of its model.
      dataset_type: Of what a client has.
      task: Of the model.
      layers: Number of prunable layers that are reported.
    """
    state_type = tff.types.to_type(tf.nest.map_structure(_array_type, state))
    at_server = tff.FederatedType(state_type, tff.SERVER)
    metrics = tff.FederatedType(metrics_type(task, layers), tff.SERVER)
    output: Any = tff.learning.templates.LearningProcessOutput(at_server, metrics)
    weights_type = tff.types.to_type(
      tff.learning.models.ModelWeights(
        *(
          [tff.TensorType(np.float32, place.shape) for place in places]
          for places in (layout.trainable, layout.non_trainable)
        )
      )
    )
    self.initialize = tff.FunctionType(None, at_server)
    self.next = tff.FunctionType(
      tff.StructType(
        [
          ("state", at_server),
          ("client_data", tff.FederatedType(dataset_type, tff.CLIENTS)),
        ]
      ),
      tff.types.to_type(output),
    )
    self.get_model_weights = tff.FunctionType(state_type, weights_type)
    self.set_model_weights = tff.FunctionType(
      tff.StructType([("state", state_type), ("model_weights", weights_type)]),
      state_type,
    )


def _array_type(array: Any) -> tff.TensorType:
  found = np.asarray(array)
  return tff.TensorType(found.dtype.type, found.shape)
