"""Positions are read without TensorFlow as they are with it."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.devices import device_positions
from fedtiny_tff.devices.device_plan import PlannedModel
from fedtiny_tff.errors import InputError
from fedtiny_tff.sparsity import positions
from tests.fedtiny_tff.support import quick


def planned(size: int, count: int) -> PlannedModel:
  code = positions.smallest_code(size, count)
  return PlannedModel(
    "m", "", (1,), "classify", size, count, 0, 0,
    code.encoded_bytes, code.low_bits or 0, 2,
  )  # fmt: skip


@quick
@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(1, 8))
def test_every_code(marks, repeats):
  # Fewer active weights than half make Elias-Fano the smaller code.
  mask = np.array(marks + [False] * (len(marks) * repeats))
  model = planned(len(mask), int(mask.sum()))
  code = positions.smallest_code(model.prunable, model.active)
  found = device_positions.decode_mask(code.encode(tf.constant(mask)).numpy(), model)
  np.testing.assert_array_equal(found, mask)


def test_all_and_none_need_no_bytes():
  nothing = np.zeros(0, np.uint8)
  assert device_positions.decode_mask(nothing, planned(3, 3)).tolist() == [True] * 3
  assert device_positions.decode_mask(nothing, planned(3, 0)).tolist() == [False] * 3
  assert device_positions.decode_mask(nothing, planned(1, 1)).tolist() == [True]


@pytest.mark.parametrize(
  ("places", "encoded"),
  [
    # Cut at bit 3: lower bits 000 001, upper parts 0 and 1 at places 0, 2.
    ([0, 9], [0b00000100, 0b10100000]),
    # Lower bits that fill a byte and one bit more: 000 001 111; places 0, 2, 3.
    ([0, 9, 15], [0b00000111, 0b10000000, 0b10110000]),
  ],
)
def test_elias_fano_by_hand(places, encoded):
  size = len(encoded)
  model = PlannedModel("m", "", (1,), "classify", 16, len(places), 0, 0, size, 3, 2)
  mask = device_positions.decode_mask(np.array(encoded, np.uint8), model)
  assert np.flatnonzero(mask).tolist() == places
  # An index by numbers would take weights 0 and 1 over and over.
  assert mask.dtype == bool


def test_a_bitmap_by_hand():
  model = PlannedModel("m", "", (1,), "classify", 10, 2, 0, 0, 2, 0, 2)
  mask = device_positions.decode_mask(
    np.array([0b00100000, 0b01000000], np.uint8), model
  )
  assert np.flatnonzero(mask).tolist() == [2, 9]
  assert mask.dtype == bool


@quick
@given(st.binary(min_size=13, max_size=13))
def test_any_bytes_are_a_mask_or_refused(content):
  model = PlannedModel("m", "", (1,), "classify", 200, 10, 0, 0, 13, 4, 2)
  try:
    mask = device_positions.decode_mask(np.frombuffer(content, np.uint8), model)
  except InputError:
    return
  assert mask.sum() == 10


@pytest.mark.parametrize(
  ("low_bits", "encoded", "message"),
  [
    (0, [0b11100000, 0], "mark 3 weights, the plan has 2"),
    (3, [0b00000000, 0b00001100], "one is 32, the model has 16 weights"),
    # Weights 0 and 16, the first that there is not.
    (3, [0b00000000, 0b10010000], "one is 16, the model has 16 weights"),
    (3, [0b00000000, 0b10000000], "mark 1 weights, the plan has 2"),
  ],
)
def test_other_marks_are_refused(low_bits, encoded, message):
  model = PlannedModel("m", "", (1,), "classify", 16, 2, 0, 0, 2, low_bits, 2)
  with pytest.raises(InputError) as refused:
    device_positions.decode_mask(np.array(encoded, np.uint8), model)
  assert str(refused.value) == (
    f"positions: {message}; send them as the plan codes them"
  )
