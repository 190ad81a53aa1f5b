"""A method is held to what it says that clients send; bytes are counted by that."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data.client_store import ClientReference
from fedtiny_tff.federated import messages
from fedtiny_tff.federated.training_rounds import client_work
from fedtiny_tff.local_training import optimizers, training
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.strategies.adjustment import Adjustment
from fedtiny_tff.tasks import Metrics
from tests.fedtiny_tff.federated import support

SIZES = ModelWeights(4, 2, 0, 0)


class Sent(NamedTuple):
  """Two tensors.

  Attributes:
    values: Of any type.
    positions: Of any type.
  """

  values: tf.Tensor
  positions: tf.Tensor


class _Says(Adjustment):
  """Says that clients send float32 [3] and uint8 [2]; they send what it is given."""

  def __init__(self, sent):
    self._sent = sent

  def statistics_specs(self):
    return Sent(tf.TensorSpec([3], tf.float32), tf.TensorSpec([2], tf.uint8))

  def client_statistics(self, gradients, mask, counts):
    return self._sent()


def _build(tmp_path, sent):
  nothing = support.make_part(np.zeros([0, 2]), [])
  client = support.Client(support.make_part([[2, 0]], [0]), nothing)
  store, _ = support.write_store(tmp_path / "records", [client])
  return client_work.build_client_work(
    support.linear_model(), store,
    training.TrainingConfig(optimizers.OptimizerConfig("sgd", 0.1)), _Says(sent), 0,
    (
      messages.model_values_type(SIZES, 2), messages.positions_type(SIZES, 2),
      messages.instruction_type(1),
    ),
  )  # fmt: skip


def test_what_was_said_is_the_type_of_the_message(tmp_path):
  work = _build(tmp_path, lambda: Sent(tf.zeros([3]), tf.zeros([2], tf.uint8)))
  found = work.type_signature.result.update.statistics
  assert found.compact_representation() == "<values=float32[3],positions=uint8[2]>"


@pytest.mark.parametrize(
  ("sent", "found"),
  [
    (lambda: Sent(tf.zeros([4]), tf.zeros([2], tf.uint8)), r"\(\(4,\), 'float32'\)"),
    (lambda: Sent(tf.zeros([3], tf.float64), tf.zeros([2], tf.uint8)), "'float64'"),
    (lambda: Sent(tf.zeros([2], tf.uint8), tf.zeros([3])), "'uint8'"),
    (lambda: (tf.zeros([3]),), r"\[\(\(3,\), 'float32'\)\]"),
    (lambda: (), r"\[\]"),
  ],
  ids=["longer", "wider", "swapped", "one_missing", "nothing"],
)
def test_what_was_not_said_is_a_defect(tmp_path, sent, found):
  message = (
    r"_Says says that clients send \[\(\(3,\), 'float32'\), \(\(2,\), 'uint8'\)\], "
    rf"they send .*{found}"
  )
  with pytest.raises(TypeError, match=message):
    _build(tmp_path, sent)


def test_a_shape_that_is_not_static_is_a_defect(tmp_path):
  def unknown():
    count = tf.cast(tf.timestamp(), tf.int32)
    return Sent(tf.zeros([count]), tf.zeros([2], tf.uint8))

  with pytest.raises(TypeError, match=r"they send \[\(\(None,\), 'float32'\)"):
    _build(tmp_path, unknown)


class TestInspect:
  def verdict(self, offset=0.5, examples=3):
    """Names what is found of a report that did not move but in its running mean."""
    zero, one = tf.zeros([1]), tf.ones([1])
    model = messages.TrainedModel(zero, zero, tf.constant([offset]), one)
    weight = tf.constant(float(examples))
    metrics = Metrics(tf.constant(1.0), tf.constant(0.0), weight)
    found = client_work.inspect(
      ClientReference(*(tf.constant(n, tf.int64) for n in (0, 0, examples, 0))),
      messages.ModelValues(zero, zero, zero, one),
      messages.ClientUpdate(model, weight, metrics, ()),
      1,
      None,
    )
    [name] = [name for name, said in found._asdict().items() if said]
    return name

  def test_an_honest_report(self):
    assert self.verdict() == "accepted"

  def test_a_mean_whose_square_is_infinite(self):
    # The server subtracts the squared mean of such offsets from the second moment.
    assert self.verdict(offset=1e20) == "not_finite"

  def test_a_client_that_is_known_to_have_nothing(self):
    assert self.verdict(examples=0) == "wrong_count"


class TestClientSeed:
  def test_differs_by_seed_round_and_client(self):
    numbers = [0, 1, 2, 2**31 - 1]
    found = {
      tuple(
        client_work.client_seed(seed, tf.constant(r), tf.constant(c, tf.int64)).numpy()
      )
      for seed in (*numbers, 2**31, 2**40)
      for r in numbers
      for c in numbers
    }
    assert len(found) == 6 * 4 * 4
