"""What selection and rounds start from: the model, the method and the weights agree."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.errors import InputError
from fedtiny_tff.federated import method
from fedtiny_tff.federated.method import Start
from fedtiny_tff.strategies import base, fedtiny
from fedtiny_tff.strategies.plan import FedTinyPlan

LAYERS = tf.keras.layers
PLAN = FedTinyPlan(target_density=0.5, rounds=3, pool_size=3)


def model_fn():
  """Five inputs, four units with batch norm, three classes: 20 + 12 prunable weights."""
  return tf.keras.Sequential(
    [
      tf.keras.Input((5,)),
      LAYERS.Dense(4, use_bias=False, name="hidden"),
      LAYERS.BatchNormalization(name="norm"),
      LAYERS.ReLU(name="relu"),
      LAYERS.Dense(3, name="logits"),
    ]
  )


def _prepared(plan=PLAN, **start) -> method.Method:
  return method.prepare(model_fn, plan, Start(**start))


def _spec(plan=PLAN, **start):
  return _prepared(plan, **start).models.trained.spec


class TestModel:
  def test_one_model_is_trained_from_what_is_known(self):
    prepared = _prepared()
    assert prepared.plan is PLAN
    assert prepared.strategy.name == "fedtiny"
    assert prepared.strategy is prepared.models.strategy
    assert prepared.known.definition is prepared.models.pretrained
    assert prepared.models.trained is prepared.models.full
    assert [x.shape for x in prepared.models.full.spec.layers] == [(5, 4), (4, 3)]

  def test_a_method_of_one_s_own_is_taken_as_it_is(self):
    own = base.Strategy()
    assert _prepared(strategy=own).strategy is own

  @pytest.mark.parametrize(
    ("granularity", "strategy", "blocks"),
    [
      ("layer", "fedtiny", ((0,), (1,))),
      ("entire", "fedtiny", ((0, 1),)),
      # It adjusts the whole model, whatever the plan says.
      ("layer", "prunefl", ((0, 1),)),
    ],
  )
  def test_blocks_are_the_plan_s_unless_the_method_needs_others(
    self, granularity, strategy, blocks
  ):
    plan = dataclasses.replace(PLAN, granularity=granularity)
    assert _spec(plan, strategy=strategy).blocks == blocks

  def test_blocks_by_name(self):
    plan = dataclasses.replace(PLAN, blocks=(("hidden", "logits"),))
    assert _spec(plan).blocks == ((0, 1),)

  def test_channels_go_together_where_they_can(self):
    assert _spec().channel_blocks == (1, 1)
    # Four units are two pairs; three classes are none.
    found = _spec(dataclasses.replace(PLAN, channel_block=2))
    assert found.channel_blocks == (2, 1)

  def test_only_what_serves_the_purpose_is_pruned(self):
    with pytest.raises(InputError, match="no prunable 1×1 convolution"):
      _spec(dataclasses.replace(PLAN, prune_for="xnnpack"))

  def test_a_narrower_model_is_trained_and_each_is_made_once(self):
    asked = []

    def of_width(width):
      asked.append(width)
      units = max(int(8 * width), 1)
      return tf.keras.Sequential(
        [tf.keras.Input((5,)), LAYERS.Dense(units), LAYERS.Dense(3)]
      )

    prepared = method.prepare(of_width, PLAN, Start(strategy="small_dense"))
    # Of 8 · 5 + 3 · 8 weights half are kept, beside 11 biases: 43. Of u units there are
    # 5 u + u + 3 u + 3: four have 39, five 48.
    assert prepared.models.full.spec.sizes == (40, 24)
    assert prepared.models.trained.spec.sizes == (20, 12)
    assert prepared.known.definition is prepared.models.trained
    assert len(prepared.known.weights.prunable) == 32
    # Twice, which tells what is drawn from what is fixed.
    assert {asked.count(width) for width in asked} == {2}


class TestWeights:
  def test_those_that_are_given(self):
    given = model_fn()
    found = _prepared(
      initial_weights=tff.learning.models.ModelWeights.from_model(given)
    ).known.weights
    kernels = [given.get_layer(name).kernel.numpy() for name in ("hidden", "logits")]
    flat = np.concatenate([kernel.ravel() for kernel in kernels])
    np.testing.assert_array_equal(found.prunable, flat)
    # Scale and shift of batch norm, and biases; mean and variance of four units.
    np.testing.assert_array_equal(found.dense, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(found.batch_norm_mean, np.zeros(4))
    np.testing.assert_array_equal(found.batch_norm_variance, np.ones(4))

  def test_otherwise_they_follow_from_the_seed(self):
    first, again, other = (
      _prepared(dataclasses.replace(PLAN, seed=seed)).known.weights.prunable
      for seed in (4, 4, 5)
    )
    assert isinstance(first, np.ndarray)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)

  def test_of_another_model_they_are_refused(self):
    other = tf.keras.Sequential([tf.keras.Input((5,)), LAYERS.Dense(3)])
    weights = tff.learning.models.ModelWeights.from_model(other)
    with pytest.raises(
      InputError, match=r"shapes \[\(5, 3\), \(3,\)\] are not this model"
    ):
      _prepared(initial_weights=weights)


class TestPublic:
  def test_without_any_there_are_none(self):
    features, labels = _prepared().known.public
    assert (features.shape, labels.shape) == ((0, 5), (0,))

  def test_all_that_are_given(self):
    inputs = np.arange(35, dtype=np.float32).reshape(7, 5)
    classes = np.array([0, 1, 2, 0, 1, 2, 0])
    given = tf.data.Dataset.from_tensor_slices((inputs, classes)).batch(3)
    features, labels = _prepared(public=given, strategy="snip").known.public
    np.testing.assert_array_equal(features, inputs)
    np.testing.assert_array_equal(labels, classes)

  def test_a_method_that_needs_them_is_refused_without(self):
    with pytest.raises(InputError, match=r"strategy snip ranks weights .* public="):
      _prepared(strategy="snip")

  def test_what_is_no_dataset_is_refused(self):
    with pytest.raises(
      InputError, match=r"^public: got list; give a tf\.data\.Dataset"
    ):
      _prepared(public=[1, 2])


def test_candidates_are_those_of_plan_and_method():
  prepared = _prepared()
  masks = prepared.candidate_masks()
  assert masks.shape == (3, 32)
  assert masks.sum(axis=1).tolist() == [16, 16, 16]
  wanted = fedtiny.FedTiny().candidate_masks(prepared.known, PLAN)
  np.testing.assert_array_equal(masks, wanted)
  assert _prepared(strategy="fedavg").candidate_masks().tolist() == [[True] * 32]


@pytest.mark.parametrize(
  ("options", "said"),
  [
    ({"strategy": 3}, "^strategy must be a name or a Strategy, got int; .*fedavg"),
    ({"strategy": fedtiny.FedTiny}, "must be a name or a Strategy, got type"),
    ({"strategy": "small_dense"}, "small_dense .* takes a width multiplier"),
    ({"task": "rank"}, "^task must be one of classify, reconstruct, got 'rank'$"),
    ({"initial_weights": [1]}, "^initial_weights are list; .*ModelWeights.from_model"),
  ],
)
def test_what_does_not_fit_is_refused(options, said):
  with pytest.raises(InputError, match=said):
    _prepared(**options)


def test_what_is_no_plan_is_refused():
  message = (
    "^plan must be a FedTinyPlan, got dict; make one with fedtiny_tff.FedTinyPlan"
  )
  with pytest.raises(InputError, match=message):
    _prepared({"rounds": 3})
