"""Who scores candidates for users with datasets of their own, and how many may."""

import numpy as np
import pytest
import tensorflow as tf

import fedtiny_tff
from fedtiny_tff.errors import InputError

LAYERS = tf.keras.layers
PLAN = fedtiny_tff.FedTinyPlan(
  target_density=0.5, rounds=3, adjust_until_round=2, pool_size=3
)


def model_fn():
  """Four inputs, five units with batch norm, two classes."""
  return tf.keras.Sequential(
    [
      tf.keras.Input((4,)),
      LAYERS.Dense(5, use_bias=False),
      LAYERS.BatchNormalization(),
      LAYERS.Dense(2),
    ]
  )


def _datasets(clients):
  generator = np.random.default_rng(7)
  return [
    tf.data.Dataset.from_tensor_slices(
      (generator.normal(size=(6, 4)).astype(np.float32), generator.integers(0, 2, 6))
    ).batch(3)
    for _ in range(clients)
  ]


@pytest.mark.parametrize("name", ["trimmed_mean", "median"])
def test_more_clients_than_scores_are_held_of(name):
  aggregation = fedtiny_tff.Aggregation(name, slots=2)
  with pytest.raises(
    InputError, match=rf"^3 clients score candidates, .* {name} holds 2"
  ):
    fedtiny_tff.select_candidate(model_fn, PLAN, _datasets(3), aggregation=aggregation)


def test_scores_under_clipped_models_need_no_slots(local_runtime):
  robust, trimmed = (
    fedtiny_tff.select_candidate(model_fn, PLAN, _datasets(3), aggregation=aggregation)
    for aggregation in (
      fedtiny_tff.Aggregation("robust"),
      fedtiny_tff.Aggregation("trimmed_mean", slots=9),
    )
  )
  np.testing.assert_array_equal(robust.losses, trimmed.losses)
  assert robust.chosen == trimmed.chosen
  assert (robust.losses > 0.0).all()
  # A variance of nothing would be zero.
  assert (robust.state.weights.batch_norm_variance > 0.0).all()
