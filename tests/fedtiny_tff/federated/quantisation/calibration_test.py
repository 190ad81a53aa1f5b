"""Activation ranges from clients, against numbers by hand and all data at once."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.federated import messages
from fedtiny_tff.federated.quantisation import calibration
from fedtiny_tff.masked_models.activation_ranges import BINS
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.masked_models.variable_layout import VariableLayout
from tests.fedtiny_tff.federated import support

pytestmark = pytest.mark.usefixtures("local_runtime")

# One masked kernel [2, 2], one bias [2]: the inputs, and inputs times kernel plus bias.
LAYOUT = VariableLayout(((2, 2), (2,)), (True, False))
KERNEL = np.array([[2.0, 0.0], [0.0, -1.0]], np.float32)
BIAS = np.array([0.5, 0.0], np.float32)
NOTHING = np.zeros(0, np.float32)
CLIENTS = [
  support.Client(
    support.make_part([[1, 2], [-3, 0.5]], [0, 1]), support.make_part([[90, 90]], [0])
  ),
  support.Client(
    support.make_part([[0, 4], [2, 1], [5, -6]], [0, 1, 2]),
    support.make_part([[-90, -90]], [0]),
  ),
]
# Outputs: (2.5, -2), (-5.5, -0.5) | (0.5, -4), (4.5, -1), (10.5, 6).


def _activations(inputs, variables):
  kernel, bias = variables
  return [inputs, tf.matmul(inputs, kernel) + bias]


MODEL = calibration.MeasuredModel(_activations, 2, LAYOUT, 2)


@pytest.fixture(name="sent", scope="module")
def fixture_sent():
  weights = ModelWeights(KERNEL.ravel(), BIAS, NOTHING, NOTHING)
  mask = tf.constant(KERNEL.ravel() != 0)
  return messages.pack_model(
    weights._replace(prunable=tf.constant(weights.prunable)), mask, 2
  )


@pytest.fixture(name="stored", scope="module")
def fixture_stored(tmp_path_factory):
  return support.write_store(
    tmp_path_factory.mktemp("calibration") / "records", CLIENTS
  )


def _build(stored, **changes):
  options = {"samples": 0, "batch_size": 2, "counts": False} | changes
  return calibration.build_calibration(MODEL, stored[0], **options)


def _check(found, low, high):
  np.testing.assert_array_equal(found.minimum, np.asarray(low, np.float32))
  np.testing.assert_array_equal(found.maximum, np.asarray(high, np.float32))


SENT = "<sent=<active_values=float32[2],positions=uint8[1],dense=float32[2],"
SENT += "batch_norm_mean=float32[0],batch_norm_variance=float32[0]>@SERVER"
REFERENCES = "clients={<client=int64,first_record=int64,training_examples=int64,"
REFERENCES += "development_examples=int64>}@CLIENTS>"


def test_only_ranges_reach_the_server(stored):
  built = _build(stored)
  assert built.computation.type_signature.compact_representation() == (
    f"({SENT},{REFERENCES} -> <minimum=float32[2],maximum=float32[2]>@SERVER)"
  )
  assert built.upload_bytes == 2 * 2 * 4
  # Two active values, a byte of positions, two biases.
  assert built.download_bytes == 2 * 4 + 1 + 2 * 4


def test_only_ranges_and_sums_of_counts_reach_the_server(stored):
  built = _build(stored, counts=True)
  assert built.computation.type_signature.compact_representation() == (
    f"({SENT},{REFERENCES} -> <ranges=<minimum=float32[2],maximum=float32[2]>,"
    "counts=int64[2,2048]>@SERVER)"
  )
  assert built.upload_bytes == 16 + 2 * 2048 * 8
  assert built.download_bytes == 17 + 16


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_ranges_of_two_clients(stored, sent, batch_size):
  _, references = stored
  found = _build(stored, batch_size=batch_size).computation(sent, references)
  _check(found, [-6, -5.5], [5, 10.5])
  first = _build(stored).computation(sent, references[:1])
  _check(first, [-3, -5.5], [2, 2.5])


def test_order_of_clients_does_not_matter(stored, sent):
  computation = _build(stored, counts=True).computation
  assert support.to_bytes(computation(sent, stored[1])) == support.to_bytes(
    computation(sent, stored[1][::-1])
  )


def test_only_the_first_samples_of_each_client_count(stored, sent):
  found = _build(stored, samples=1).computation(sent, stored[1])
  _check(found, [0, -4], [4, 2.5])
  # One more than a client has.
  found = _build(stored, samples=3).computation(sent, stored[1])
  _check(found, [-6, -5.5], [5, 10.5])


def test_held_out_parts_do_not_count(stored, sent):
  store, references = stored
  wanted = support.to_bytes(_build(stored, counts=True).computation(sent, references))
  for reference in references:
    first = reference.first_record + reference.training_examples
    with support.overwritten(store, first, 1):
      found = _build(stored, counts=True).computation(sent, references)
    assert support.to_bytes(found) == wanted
  with support.overwritten(store, references[0].first_record, 1):
    found = _build(stored, counts=True).computation(sent, references)
  assert support.to_bytes(found) != wanted


def test_counts_are_those_of_all_values_together(stored, sent):
  found = _build(stored, counts=True).computation(sent, stored[1])
  _check(found.ranges, [-6, -5.5], [5, 10.5])
  inputs = np.concatenate([client.training.features for client in CLIENTS])
  for counts, values, low, high in zip(
    found.counts, (inputs, inputs @ KERNEL + BIAS), (-6, -5.5), (5, 10.5), strict=True
  ):
    wanted, _ = np.histogram(values, BINS, (low, high))
    np.testing.assert_array_equal(counts, wanted)


def test_a_client_without_examples_changes_nothing(stored, sent):
  _, references = stored
  empty = references[0]._replace(training_examples=np.int64(0))
  found = _build(stored, counts=True).computation(sent, [references[1], empty])
  _check(found.ranges, [-6, -4], [5, 10.5])
  assert found.counts.sum(axis=1).tolist() == [6, 6]


def test_a_client_that_computes_nan_is_not_passed_over(stored, sent):
  def broken(inputs, variables):
    first, second = _activations(inputs, variables)
    return [first, second / tf.cast(inputs > -5.0, tf.float32)]

  model = calibration.MeasuredModel(broken, 2, LAYOUT, 2)
  built = calibration.build_calibration(
    model, stored[0], samples=0, batch_size=2, counts=False
  )
  # Only the second client holds a value of at most -5.
  _check(built.computation(sent, stored[1][:1]), [-3, -5.5], [2, 2.5])
  _check(built.computation(sent, stored[1]), [-6, -np.inf], [5, np.inf])
