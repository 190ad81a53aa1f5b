"""Tests of what is encoded under a limit of RAM, measured in TFLM."""

import numpy as np
import pytest

from tests.tflite_export.mcu_chain import BIG, MIDDLE, SMALL, chain_of_layers, inputs
from tflite_export.artifacts import BudgetError, VerificationError
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers import mcu_budget
from tflite_export.microcontrollers.mcu_budget import (
  TOO_MUCH_RAM,
  Footprint,
  encode_within,
)
from tflite_export.runtimes import tflm

ALL = {BIG, MIDDLE, SMALL}


@pytest.fixture(scope="module")
def file():
  return chain_of_layers()


def arena_bytes(model_bytes):
  return tflm.run(model_bytes, inputs()).arena.recommended_bytes


def arena_of(file, encoded):
  left = dict.fromkeys(ALL - encoded, "not asked for")
  made = encode_pruned(file, left)
  assert places(made) == encoded
  return arena_bytes(made.model_bytes)


def places(encoded):
  return {(each.subgraph, each.index) for each in encoded.tensors if each.encoded}


class TestLeftDense:
  def test_only_what_is_not_named_is_encoded(self, file):
    made = encode_pruned(file, {MIDDLE: "because"})
    assert places(made) == {BIG, SMALL}
    reasons = {(each.subgraph, each.index): each for each in made.tensors}
    assert reasons[MIDDLE].left_dense_because == "because"
    assert reasons[MIDDLE].stored_bytes == reasons[MIDDLE].dense_bytes == 2048

  def test_nothing_left_to_encode_is_the_file_itself(self, file):
    assert encode_pruned(file, dict.fromkeys(ALL, "because")).model_bytes == file

  def test_outputs_do_not_depend_on_it(self, file):
    wanted = tflm.run(file, inputs()).stored_outputs
    assert len(np.unique(wanted)) > 10
    for left in ({BIG: "x"}, {MIDDLE: "x"}, {BIG: "x", SMALL: "x"}):
      got = tflm.run(encode_pruned(file, left).model_bytes, inputs()).stored_outputs
      np.testing.assert_array_equal(got, wanted)


class TestEncodeWithin:
  def test_no_limit(self, file):
    made = encode_within(file, None, inputs())
    assert made == encode_pruned(file)
    assert places(made) == ALL

  # What is alive with a layer's weights: its inputs, the weights, its outputs.
  def test_arena_grows_by_the_decoded_weights(self, file):
    heads = {
      place: tflm.run(encode_pruned(file, dict.fromkeys(ALL - {place}, "x")).model_bytes, inputs())
      .arena.activations_bytes
      for place in ALL
    }  # fmt: skip
    assert heads == {
      BIG: 32 + 4096 + 128, MIDDLE: 128 + 2048 + 16, SMALL: 16 + 768 + 48,
    }  # fmt: skip

  @pytest.mark.parametrize(
    "fitting", [ALL, {BIG, MIDDLE}, {BIG}, {MIDDLE, SMALL}, {MIDDLE}, {SMALL}, set()]
  )
  def test_the_largest_savings_that_fit(self, file, fitting):
    limit = arena_of(file, fitting)
    made = encode_within(file, limit, inputs())
    assert places(made) == fitting
    assert arena_bytes(made.model_bytes) == limit

  def test_a_byte_too_little_leaves_the_next_one_out(self, file):
    assert places(encode_within(file, arena_of(file, {BIG}) - 1, inputs())) == {
      MIDDLE, SMALL,
    }  # fmt: skip
    just_less = encode_within(file, arena_of(file, {SMALL}) - 1, inputs())
    assert places(just_less) == set()
    assert just_less.model_bytes == file

  def test_says_why_a_tensor_stays_dense(self, file):
    made = encode_within(file, arena_of(file, {MIDDLE, SMALL}), inputs())
    (reason,) = (each.left_dense_because for each in made.tensors if not each.encoded)
    assert reason == TOO_MUCH_RAM

  def test_where_not_even_the_dense_file_fits_it_is_returned(self, file):
    assert encode_within(file, 100, inputs()).model_bytes == file

  def test_same_bytes_each_time(self, file):
    limit = arena_of(file, {MIDDLE, SMALL})
    assert encode_within(file, limit, inputs()) == encode_within(file, limit, inputs())

  def test_at_most_so_many_are_tried(self, file, monkeypatch):
    limit = arena_of(file, {MIDDLE, SMALL})
    monkeypatch.setattr(mcu_budget, "_MOST_TRIALS", 2)
    # The big one is tried in vain, the middle one fits, the small one comes too late.
    assert places(encode_within(file, limit, inputs())) == {MIDDLE}


class TestCheck:
  FOUND, DENSE = Footprint(2_048, 1_024), Footprint(4_096, 512)

  @pytest.mark.parametrize(
    "options",
    [
      McuOptions(),
      McuOptions(flash_bytes=2_048),
      McuOptions(ram_bytes=1_024),
      McuOptions(flash_bytes=2_048, ram_bytes=1_024),
    ],
  )
  def test_exactly_fits(self, options):
    assert self.FOUND.fits(options)
    mcu_budget.check(self.FOUND, self.DENSE, options)

  @pytest.mark.parametrize(
    ("options", "message"),
    [
      (McuOptions(flash_bytes=2_047), r"^flash 2,048 bytes needed, 2,047 allowed \("),
      (McuOptions(ram_bytes=1_023), r"^RAM 1,024 bytes needed, 1,023 allowed \("),
      (
        McuOptions(flash_bytes=1, ram_bytes=2),
        r"^flash 2,048 .*1 allowed; RAM 1,024 .*2 allowed .*4,096 bytes of flash and 512",
      ),
    ],
  )
  def test_does_not_fit(self, options, message):
    assert not self.FOUND.fits(options)
    with pytest.raises(BudgetError, match=message):
      mcu_budget.check(self.FOUND, self.DENSE, options)

  def test_flash_that_is_short_for_want_of_ram_says_so(self, file):
    encoded = encode_within(file, arena_of(file, {SMALL}), inputs())
    assert mcu_budget.dense_for_ram_bytes(encode_within(file, None, inputs())) == 0
    kept = mcu_budget.dense_for_ram_bytes(encoded)
    left = [each for each in encoded.tensors if not each.encoded]
    assert kept == sum(each.dense_bytes for each in left) > 2_048
    found = Footprint(5_000, 100, 3_000)
    assert found.excesses(McuOptions(flash_bytes=4_000)) == [
      "flash 5,000 bytes needed (3,000 of them stay dense for want of RAM), 4,000 allowed"
    ]

  def test_is_a_failure_that_ships_nothing(self):
    assert issubclass(BudgetError, VerificationError)


def test_footprint_counts_arrays_and_the_margin(file):
  arena = tflm.Arena(activations_bytes=1_000, persistent_bytes=1_000)
  found = mcu_budget.footprint(file, arena, ("a",) * 48)
  # Four sizes of shapes, 48 pointers, 48 names of a letter and its end.
  assert found.flash_bytes == len(file) + 4 * 4 + 48 * 4 + 48 * 2
  # 2,000 + 5 % + 1,024 in multiples of 16.
  assert found.ram_bytes == 3_136
