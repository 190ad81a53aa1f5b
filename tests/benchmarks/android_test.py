"""The goals on sizes: these are the same on every machine."""

import pytest

from benchmarks import android
from tflite_export.conversion.convert import convert
from tflite_export.conversion.sparsify import sparsify
from tflite_export.xnnpack import eligibility


@pytest.fixture(name="made", scope="module")
def fixture_made():
  return android.request("small", android.small_mobilenet())


def test_nine_in_ten_weights_of_the_small_mobilenet_are_zero(made):
  assert sorted(made.masks) == [f"pointwise_{number}" for number in range(5)]
  for mask in made.masks.values():
    assert int(mask.sum()) == int(0.1 * mask.size)


def test_sparse_files_of_a_small_mobilenet_meet_their_goals(made):
  found = android.sizes(made)
  assert found["fp32_sparse_ratio"] <= 0.31
  assert found["fp16_sparse_ratio"] <= 0.22


def test_they_are_run_sparse_on_arm(made):
  report = eligibility.inspect(sparsify(convert(made.model, "fp16_dense")))
  assert report.eligible
  assert report.errors == ()
