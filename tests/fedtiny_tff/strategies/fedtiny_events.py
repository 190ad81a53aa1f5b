"""Adjustments of FedTiny as its tests make and apply them."""

import tensorflow as tf

from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.strategies import base, fedtiny
from fedtiny_tff.strategies.adjustment import ServerModel


def ints(*values):
  return tf.constant(values, tf.int32)


def planned(spec, block, capacities):
  plan = base.AdjustmentPlan(spec, block, tuple(capacities), 0, 0)
  return fedtiny.FedTiny().adjustment(plan)


def applied(adjustment, weights, mask, mean, counts):
  """Returns new prunable weights and the new mask."""
  vectors = ModelWeights(weights, *(tf.zeros([0]) for _ in range(3)))
  model = ServerModel(vectors, mask, ())
  moved = adjustment.apply(model, mean, counts, tf.constant(3))
  assert moved.memory == ()
  return moved.weights.prunable, moved.mask
