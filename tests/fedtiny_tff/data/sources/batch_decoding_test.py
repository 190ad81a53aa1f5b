"""A bad record is found in its batch, and a good batch is decoded in one piece."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data.examples import BadRecord
from fedtiny_tff.data.sources import batch_decoding
from fedtiny_tff.data.sources.batch_decoding import Decoder, UnusableRecord
from fedtiny_tff.data.sources.record_files import RecordBatch
from tests.fedtiny_tff import support


class _Halves:
  """Halves numbers: odd ones only one by one, negative ones not at all."""

  def __init__(self):
    self.sizes = []

  def decode(self, numbers):
    self.sizes.append(len(numbers))
    tf.debugging.assert_equal(numbers % 2, tf.zeros_like(numbers))
    tf.debugging.assert_non_negative(numbers)
    return (numbers // 2,)

  def decode_one(self, number):
    if number < 0:
      raise UnusableRecord("number", f"{number} is negative")
    return (number // 2,)


def _decode(numbers, chosen=None, first=0):
  halves = _Halves()
  bad: list[BadRecord] = []
  batch = RecordBatch(first, (tf.constant(numbers, tf.int64),))
  found = list(
    batch_decoding.decoded(
      "f", batch, Decoder(halves.decode, halves.decode_one), bad.append, chosen
    )
  )
  places = [int(n) for each in found for n in each.numbers]
  values = [int(v) for each in found for v in each.columns[0]]
  return places, values, bad, halves.sizes


def test_a_good_batch_is_decoded_once():
  assert _decode([2, 4, 6], first=7) == ([7, 8, 9], [1, 2, 3], [], [3])


def test_a_bad_record_is_told_with_its_number():
  places, values, bad, sizes = _decode([2, 4, -6, 8], first=10)
  assert (places, values) == ([10, 11, 13], [1, 2, 4])
  assert [str(each) for each in bad] == ["f, record 12, field number: -6 is negative"]
  # All; the first half; the second half, and each of its two.
  assert sizes == [4, 2, 2, 1, 1]


def test_the_single_decoder_has_the_last_word():
  assert _decode([2, 5, 4])[:3] == ([0, 1, 2], [1, 2, 2], [])


@support.quick
@given(
  numbers=st.lists(st.integers(-4, 20), min_size=1, max_size=12),
  first=st.integers(0, 3),
  seed=st.integers(0, 9),
)
def test_all_good_records_come_in_order(numbers, first, seed):
  chosen = np.random.default_rng(seed).integers(0, 2, first + len(numbers)).astype(bool)
  places, values, bad, _ = _decode(numbers, chosen, first)
  asked = [first + i for i in range(len(numbers)) if chosen[first + i]]
  assert places == [n for n in asked if numbers[n - first] >= 0]
  assert values == [numbers[n - first] // 2 for n in places]
  assert [each.record for each in bad] == [n for n in asked if numbers[n - first] < 0]


def test_what_is_not_chosen_is_not_looked_at():
  chosen = np.array([True, False, True])
  assert _decode([2, -1, 4], chosen) == ([0, 2], [1, 2], [], [2])
  assert _decode([2, -1, 4], np.zeros(3, bool)) == ([], [], [], [])


def test_flaws_are_told_in_order():
  flaws = batch_decoding.label_flaws(np.array([0, 3, 1, -1]), 3)
  flaws[0] = ("other", "is odd")
  bad: list[BadRecord] = []
  right = batch_decoding.usable("f", np.array([5, 6, 8, 9]), flaws, bad.append)
  assert right.tolist() == [False, False, True, False]
  assert [str(each) for each in bad] == [
    "f, record 5, field other: is odd",
    "f, record 6, field label: 3 is not in [0, 3)",
    "f, record 9, field label: -1 is not in [0, 3)",
  ]
