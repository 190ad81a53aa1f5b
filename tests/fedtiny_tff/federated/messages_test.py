"""Tests of the message types, their sizes, and packing of models."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from fedtiny_tff.federated import messages
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from tests.fedtiny_tff.federated import support

# 10 prunable weights, 3 dense parameters, 2 batch-norm channels.
SIZES = ModelWeights(10, 3, 2, 2)
WEIGHTS = ModelWeights(
  np.arange(1, 11, dtype=np.float32),
  np.array([0.1, 0.2, 0.3], np.float32),
  np.array([-1.0, 1.0], np.float32),
  np.array([0.5, 2.0], np.float32),
)


def mask_of(*active: int) -> np.ndarray:
  return np.isin(np.arange(10), active)


class TestTypes:
  def test_sparse_model(self):
    found = messages.sparse_model_type(SIZES, 4).compact_representation()
    assert found == (
      "<active_values=float32[4],positions=uint8[2],dense=float32[3],"
      "batch_norm_mean=float32[2],batch_norm_variance=float32[2]>"
    )

  def test_sparse_model_without_batch_norm(self):
    found = messages.sparse_model_type(ModelWeights(16, 0, 0, 0), 1)
    assert found.compact_representation() == (
      "<active_values=float32[1],positions=uint8[2],dense=float32[0],"
      "batch_norm_mean=float32[0],batch_norm_variance=float32[0]>"
    )

  def test_model_values(self):
    found = messages.model_values_type(SIZES, 4).compact_representation()
    assert found == (
      "<active_values=float32[4],dense=float32[3],"
      "batch_norm_mean=float32[2],batch_norm_variance=float32[2]>"
    )

  def test_reference(self):
    assert messages.reference_type().compact_representation() == (
      "<client=int64,first_record=int64,training_examples=int64,"
      "development_examples=int64>"
    )

  def test_instruction(self):
    assert messages.instruction_type(2).compact_representation() == (
      "<round_index=int32,learning_rate=float32,counts=int32[2]>"
    )

  def test_client_update(self):
    sent = tff.types.to_type([tff.TensorType(np.int32, [5])])
    found = messages.client_update_type(SIZES, 4, sent).compact_representation()
    assert found == (
      "<model=<active_values=float32[4],dense=float32[3],mean_offset=float32[2],"
      "second_moment=float32[2]>,weight=float32,"
      "metrics=<loss_sum=float32,correct=float32,examples=float32>,"
      "statistics=<int32[5]>>"
    )


class TestPackModel:
  def test_values_by_hand(self):
    packed = messages.pack_model(WEIGHTS, tf.constant(mask_of(0, 2, 9)), 3)
    np.testing.assert_array_equal(packed.active_values, [1.0, 3.0, 10.0])
    # 10100000 01000000, most significant bit first.
    np.testing.assert_array_equal(packed.positions, [0xA0, 0x40])
    np.testing.assert_array_equal(packed.dense, WEIGHTS.dense)
    np.testing.assert_array_equal(packed.batch_norm_mean, WEIGHTS.batch_norm_mean)
    np.testing.assert_array_equal(
      packed.batch_norm_variance, WEIGHTS.batch_norm_variance
    )

  @pytest.mark.parametrize("size", [1, 7, 8, 9, 64, 65])
  @pytest.mark.parametrize("active", ["none", "one", "half", "all"])
  def test_unpacking_gives_the_masked_model_back(self, size, active):
    generator = np.random.default_rng(size)
    count = {"none": 0, "one": 1, "half": size // 2, "all": size}[active]
    mask = generator.permutation(np.arange(size) < count)
    prunable = generator.normal(size=size).astype(np.float32)
    packed = messages.pack_model(
      WEIGHTS._replace(prunable=tf.constant(prunable)), tf.constant(mask), count
    )
    weights, unpacked, places = messages.unpack_model(packed, size)
    np.testing.assert_array_equal(unpacked, mask)
    np.testing.assert_array_equal(places, np.flatnonzero(mask))
    np.testing.assert_array_equal(weights.prunable, np.where(mask, prunable, 0))
    assert support.to_bytes(weights[1:]) == support.to_bytes(WEIGHTS[1:])

  def test_matches_its_type(self):
    packed = messages.pack_model(WEIGHTS, tf.constant(mask_of(1, 2, 3, 4)), 4)
    wanted = messages.sparse_model_type(SIZES, 4)
    for name, tensor in packed._asdict().items():
      assert np.asarray(tensor).dtype == wanted[name].dtype
      assert tuple(tensor.shape) == wanted[name].shape

  @pytest.mark.parametrize("active", [2, 4])
  def test_another_number_of_active_weights_raises(self, active):
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
      messages.pack_model(WEIGHTS, tf.constant(mask_of(0, 2, 9)), active)


class TestPositionsApart:
  def test_leaving_out_and_putting_back_gives_the_model(self):
    packed = messages.pack_model(WEIGHTS, tf.constant(mask_of(0, 2, 9)), 3)
    held = messages.without_positions(packed)
    assert held._fields == tuple(f for f in packed._fields if f != "positions")
    again = messages.with_positions(held, packed.positions)
    assert isinstance(again, messages.SparseModel)
    assert support.to_bytes(again) == support.to_bytes(packed)


class TestSizeBytes:
  def test_sparse_model_by_hand(self):
    # 4 values, 10 bits in 2 bytes, 3 parameters, 2 means, 2 variances.
    wanted = 4 * 4 + 2 + 4 * 3 + 4 * 2 + 4 * 2
    assert wanted == 46
    assert messages.size_bytes(messages.sparse_model_type(SIZES, 4)) == wanted

  def test_equals_the_bytes_of_the_values(self):
    packed = messages.pack_model(WEIGHTS, tf.constant(mask_of(1, 2, 3, 4)), 4)
    found = messages.size_bytes(messages.sparse_model_type(SIZES, 4))
    assert found == sum(np.asarray(v).nbytes for v in packed)

  def test_placement_changes_nothing(self):
    model_type = messages.sparse_model_type(SIZES, 4)
    for placement in (tff.SERVER, tff.CLIENTS):
      placed = tff.FederatedType(model_type, placement)
      assert messages.size_bytes(placed) == messages.size_bytes(model_type)

  def test_nested_and_empty_structures(self):
    nested = tff.types.to_type([(), [np.float64, (np.uint8, (np.int32, [2, 3]))]])
    assert messages.size_bytes(nested) == 8 + 1 + 24
    assert messages.size_bytes(tff.types.to_type(())) == 0

  @pytest.mark.parametrize(
    "message_type",
    [
      tff.TensorType(np.float32, [None]),
      tff.TensorType(np.float32, None),
      tff.types.to_type([np.float32, tff.TensorType(np.float32, [2, None])]),
      tff.FederatedType(tff.TensorType(np.int32, [None, 3]), tff.CLIENTS),
      tff.SequenceType(np.float32),
      tff.FunctionType(None, np.float32),
    ],
    ids=str,
  )
  def test_a_type_that_is_not_static_raises(self, message_type):
    with pytest.raises(ValueError, match="not a message of static size: "):
      messages.size_bytes(message_type)


@pytest.mark.parametrize("active", [3, 0])
def test_what_moved_is_where_it_went(active):
  """Also where active values travel elsewhere, and there are none in the report."""
  received = messages.ModelValues(
    *(tf.constant(v) for v in ([1.0, 2.0, 3.0], [4.0], [5.0], [6.0]))
  )
  trained = messages.TrainedModel(
    *(
      tf.constant(v, tf.float32)
      for v in ([1.5, 1.0, 3.0][:active], [9.0], [0.5], [7.0])
    )
  )
  moved = messages.offsets(trained, received)
  assert moved.dense.numpy() == 5.0
  assert moved.second_moment.numpy() == 1.0
  model = messages.with_positions(received, tf.zeros([1], tf.uint8))
  for back, wanted in zip(messages.moved_by(model, moved), trained, strict=True):
    np.testing.assert_array_equal(back, wanted)
