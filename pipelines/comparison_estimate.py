"""How long a comparison will take: from its finished cells, or from a few steps."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fedtiny_tff import batches, tfmot_masking, training
from pipelines import training_pipeline
from pipelines.comparison_grid import Cell

# What a cell takes besides its rounds: records, pre-training, graphs, final figures.
_FIXED_SECONDS = 30.0
_WARM_UP_STEPS = 2
_TIMED_STEPS = 6


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
  experiment = training_pipeline.plan_experiment(cell.config)
  config = cell.config
  examples = experiment.data.training_sizes * config.local_epochs
  if config.max_local_steps:
    examples = np.minimum(examples, config.max_local_steps * config.batch_size)
  participants = config.clients_per_round or len(examples)
  images = float(np.mean(examples)) * participants * config.rounds
  return _FIXED_SECONDS + images / _images_per_second(experiment)


def _images_per_second(experiment: training_pipeline.Experiment) -> float:
  """Trains some steps on noise."""
  config, info = experiment.config, experiment.data.info
  size, shape = config.batch_size, tuple(info.shape)

  def decode(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return records, tf.zeros([tf.shape(records)[0]], tf.int64)

  trainer = training.LocalTrainer(experiment.definition, config.training, decode)
  weights = tfmot_masking.initial_weights(experiment.definition, config.seed)
  mask = tf.ones([experiment.definition.spec.size], tf.bool)
  generator = np.random.default_rng(0)

  def train(steps: int) -> float:
    noise = generator.normal(size=(steps * size, *shape)).astype(np.float32)
    start = time.monotonic()
    examples = batches.in_stored_order(tf.constant(noise))
    trained, _ = trainer.train(weights, mask, examples, tf.constant(1e-6))
    trained.prunable.numpy()
    return time.monotonic() - start

  train(_WARM_UP_STEPS)
  fixed = train(_WARM_UP_STEPS)
  more = train(_WARM_UP_STEPS + _TIMED_STEPS)
  return _TIMED_STEPS * size / max(more - fixed, 1e-6)
