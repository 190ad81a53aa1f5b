"""Tests of the server's state in its two forms."""

import numpy as np
import pytest

from fedtiny_tff.federated import messages, states
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights

# 10 prunable weights, 3 dense parameters, 2 batch-norm channels.
SIZES = ModelWeights(10, 3, 2, 2)


def make_state(mask) -> states.ServerState:
  weights = ModelWeights(
    np.where(mask, np.arange(1, 11), 0).astype(np.float32),
    np.array([0.1, 0.2, 0.3], np.float32),
    np.array([-1.0, 1.0], np.float32),
    np.array([0.5, 2.0], np.float32),
  )
  return states.ServerState(weights, mask, np.int32(7))


def test_type():
  assert states.sparse_state_type(SIZES, 4).compact_representation() == (
    "<model=<active_values=float32[4],positions=uint8[2],dense=float32[3],"
    "batch_norm_mean=float32[2],batch_norm_variance=float32[2]>,round_index=int32,"
    "memory=<>,aggregation=<>>"
  )


def test_sparse_form_by_hand():
  mask = np.isin(np.arange(10), (0, 2, 9))
  found = states.to_sparse(make_state(mask))
  np.testing.assert_array_equal(found.model.active_values, [1.0, 3.0, 10.0])
  # 10100000 01000000, most significant bit first.
  np.testing.assert_array_equal(found.model.positions, [0xA0, 0x40])
  assert found.round_index == 7


@pytest.mark.parametrize("active", [(), (3,), (0, 2, 9), tuple(range(10))])
def test_dense_form_comes_back(active):
  state = make_state(np.isin(np.arange(10), active))
  found = states.to_dense(states.to_sparse(state), 10)
  assert found.round_index == 7
  assert found.mask.dtype == bool
  np.testing.assert_array_equal(found.mask, state.mask)
  for left, right in zip(found.weights, state.weights, strict=True):
    assert left.dtype == np.float32
    np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("active", [(), tuple(range(10))])
def test_no_position_is_kept_where_the_count_says_all(active):
  state = make_state(np.isin(np.arange(10), active))
  assert states.to_sparse(state).model.positions.shape == (0,)
  assert states.sparse_state_type(SIZES, len(active)).model.positions.shape == (0,)


def test_state_weighs_what_its_model_does_and_the_round():
  wanted = messages.size_bytes(messages.sparse_model_type(SIZES, 4)) + 4
  assert messages.size_bytes(states.sparse_state_type(SIZES, 4)) == wanted


class TestMemory:
  MEMORY = (np.ones(10, np.float32), np.arange(3, dtype=np.int64))

  def test_type(self):
    found = states.sparse_state_type(SIZES, 4, self.MEMORY).compact_representation()
    assert found.endswith(
      "round_index=int32,memory=<float32[10],int64[3]>,aggregation=<>>"
    )

  def test_ordinary_rounds_do_not_take_it(self):
    mask = np.isin(np.arange(10), (0, 2, 9))
    state = make_state(mask)._replace(memory=self.MEMORY)
    assert states.to_sparse(state).memory == ()
    assert states.to_dense(states.to_sparse(state), 10).memory == ()
