"""How long a comparison will take: from its finished cells, or from a few steps."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fedtiny_tff.local_training import batches, training
from fedtiny_tff.masked_models import tfmot_masking
from pipelines.comparisons.comparison_grid import Cell
from pipelines.training import experiments

# What a cell takes besides its rounds: records, pre-training, graphs, final figures.
_FIXED_SECONDS = 30.0
_WARM_UP_STEPS = 2
_TIMED_STEPS = 6
_MOST_TIMED_STEPS = 400
_LEAST_SECONDS = 0.5


def estimate_seconds(
  cells: Sequence[Cell], finished: Mapping[str, dict[str, Any]]
) -> dict[str, float]:
  """Estimates every unfinished cell.

  Args:
    cells: All cells.
    finished: What came of those that are done, by name.

  Returns:
    Seconds by the cell's name. Cells of a method that has finished ones take their
    mean; others the mean of all finished ones, or without any what the images take at
    the rate of some training steps on this machine.
  """
  by_method: dict[str, list[float]] = {}
  for found in finished.values():
    by_method.setdefault(found["result"]["method"], []).append(
      found["result"]["seconds"]
    )
  everything = [seconds for each in by_method.values() for seconds in each]
  left = [cell for cell in cells if cell.name not in finished]
  if not everything and left:
    everything = [_seconds_of(left[0])]
  return {
    cell.name: float(np.mean(by_method.get(cell.method, everything))) for cell in left
  }


def _seconds_of(cell: Cell) -> float:
  experiment = experiments.plan_experiment(cell.config)
  images = images_per_round(experiment) * cell.config.rounds
  return _FIXED_SECONDS + images / images_per_second(experiment)


def images_per_round(experiment: experiments.Experiment) -> float:
  """Returns how many examples the clients of a round train on, on average."""
  config = experiment.config
  examples = experiment.data.training_sizes * config.local_epochs
  if config.max_local_steps:
    examples = np.minimum(examples, config.max_local_steps * config.batch_size)
  participants = config.clients_per_round or len(examples)
  return float(np.mean(examples)) * participants


def images_per_second(experiment: experiments.Experiment) -> float:
  """Trains some steps on noise, and returns how many examples a second that was."""
  config, info = experiment.config, experiment.data.info
  # No batch is larger than the examples that a client has.
  size = min(config.batch_size, max(int(experiment.data.training_sizes.max()), 1))
  shape = tuple(info.shape)

  def decode(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return records, tf.zeros([tf.shape(records)[0]], tf.int64)

  # A limit of steps would end the timed ones, too.
  unlimited = dataclasses.replace(config.training, max_local_steps=0)
  trainer = training.LocalTrainer(experiment.definition, unlimited, decode)
  weights = tfmot_masking.initial_weights(experiment.definition, config.seed)
  mask = tf.ones([experiment.definition.spec.size], tf.bool)
  noise = np.random.default_rng(0).standard_normal((size, *shape), np.float32)
  records = tf.constant(noise)

  @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
  def train_for(steps: tf.Tensor) -> tf.Tensor:
    # The same batch in each step: many large ones would not fit into memory.
    once = batches.in_stored_order(records)
    examples = once._replace(order=tf.repeat(once.order, steps, axis=0))
    trained, _ = trainer.train(weights, mask, examples, tf.constant(1e-6))
    return tf.reduce_sum(trained.prunable)

  def train(steps: int) -> float:
    start = time.monotonic()
    train_for(tf.constant(steps)).numpy()
    return time.monotonic() - start

  train(_WARM_UP_STEPS)
  fixed, steps = train(_WARM_UP_STEPS), _TIMED_STEPS
  # Steps of a millisecond drown in what happens besides.
  while (more := train(_WARM_UP_STEPS + steps) - fixed) < _LEAST_SECONDS:
    if steps >= _MOST_TIMED_STEPS:
      break
    steps *= 4
  return steps * size / max(more, 1e-6)
