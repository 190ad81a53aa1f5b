"""A server's state survives its arrays, however many a strategy remembers."""

import numpy as np

from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from pipelines.runs import state_arrays
from tests.pipelines.training import scripted_rounds


def test_a_state_survives_its_arrays():
  arrays = state_arrays.of_weights(scripted_rounds.weights(1.5), scripted_rounds.START)
  assert set(arrays) == {*ModelWeights._fields, "mask"}
  state = state_arrays.to_state(arrays, 7)
  assert state.round_index == 7
  assert state.round_index.dtype == np.int32
  np.testing.assert_array_equal(state.mask, scripted_rounds.START)
  wanted = scripted_rounds.weights(1.5).prunable
  np.testing.assert_array_equal(state.weights.prunable, wanted)


def test_memory_of_many_arrays_keeps_their_order():
  memory = tuple(np.full(1, number, np.int32) for number in range(12))
  arrays = state_arrays.of_state(scripted_rounds.state(memory=memory))
  assert set(arrays) == {
    *ModelWeights._fields, "mask", *(f"memory_{number:03d}" for number in range(12))
  }  # fmt: skip
  # As an archive might list them.
  shuffled = dict(sorted(arrays.items(), key=lambda item: item[0][::-1]))
  found = state_arrays.to_state(shuffled, 0).memory
  assert [int(each[0]) for each in found] == list(range(12))
