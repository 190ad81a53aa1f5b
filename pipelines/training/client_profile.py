"""TensorFlow's profile of one client's training, repeated in this process.

The worker's binary has no profiler. What it spends its time on is what a client
computes, which runs the same operations here: the model, its masks, the optimiser, the
client's own records. Not repeated are a strategy's penalty and what clients send for an
adjustment.
"""

import pathlib
import time
from typing import Any

import numpy as np
import tensorflow as tf

from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.federated import states
from fedtiny_tff.local_training import batches, training
from fedtiny_tff.masked_models import tfmot_masking
from fedtiny_tff.model_structure import definition
from pipelines.datasets.data_folder import RunData
from pipelines.settings import config as config_lib


def profile(
  config: config_lib.RunConfig,
  data: RunData,
  model_definition: definition.ModelDefinition,
  state: states.ServerState,
  client: ClientReference,
  folder: pathlib.Path,
) -> dict[str, Any]:
  """Trains a client's part twice; the second time is profiled.

  Args:
    config: The run's flags.
    data: Its data.
    model_definition: The model.
    state: Where training starts; it is not changed.
    client: Whose records are used.
    folder: Where TensorFlow's profile goes.

  Returns:
    "client", "examples" (visits, over all epochs) and "seconds".
  """
  trainer = training.LocalTrainer(
    model_definition, config.training, data.clients.decode
  )
  mask = tf.constant(state.mask)
  weights = tfmot_masking.ModelWeights(*(tf.constant(v) for v in state.weights))
  rate = tf.constant(config.client_learning_rate, tf.float32)

  @tf.function
  def train() -> tf.Tensor:
    records = data.clients.read(client.first_record, client.training_examples)
    seed = tf.zeros([2], tf.int32)
    examples = batches.shuffled(records, config.local_epochs, seed)
    trained, metrics = trainer.train(weights, mask, examples, rate)
    # Read, so that nothing is left out of the graph.
    return metrics.examples + 0.0 * tf.reduce_sum(trained.prunable)

  train()
  tf.profiler.experimental.start(str(folder))
  start = time.monotonic()
  examples = int(np.asarray(train()))
  seconds = time.monotonic() - start
  tf.profiler.experimental.stop()
  return {"client": int(client.client), "examples": examples, "seconds": seconds}
