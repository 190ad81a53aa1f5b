"""The sizes that the benchmark reports are the goals; they depend on no machine."""

import numpy as np
import pytest

from benchmarks import mcu_size
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.runtimes import tflm

GOAL_BYTES = {
  "resnet8": 26_000,
  "autoencoder": 71_500,
  "ds_cnn": 53_936,
  "mobilenet_v1_025": 333_288,
}
# What it consists of stands in docs/microcontrollers.md.
MOST_OVERHEAD_BYTES = {
  "resnet8": 4_300,
  "autoencoder": 3_600,
  "ds_cnn": 3_300,
  # Tables of 42 operators and 113 tensors.
  "mobilenet_v1_025": 7_900,
}


@pytest.mark.parametrize("case", mcu_size.CASES, ids=lambda case: case.model)
def test_size_reaches_the_goal_with_the_same_outputs(case):
  content = mcu_size.converted(case)
  encoded = encode_pruned(shrink(content).model_bytes)
  size = len(encoded.model_bytes)
  assert size <= GOAL_BYTES[case.model]
  overhead = size - mcu_size.bound_bytes(encoded)
  assert 0 < overhead <= MOST_OVERHEAD_BYTES[case.model]
  rows = mcu_size.inputs(case)[:2]
  wanted = tflm.run(content, rows).stored_outputs
  found = tflm.run(encoded.model_bytes, rows).stored_outputs
  np.testing.assert_array_equal(found, wanted)
  assert len(np.unique(wanted)) > 2


def test_biases_and_a_tenth_of_the_weights_are_not_zero():
  case = mcu_size.CASES[0]
  model = mcu_size.pruned_model(case)
  assert np.count_nonzero(model.get_layer("logits").bias) == case.classes
  kernel = model.get_layer("unit3_conv2").kernel.numpy()
  assert np.count_nonzero(kernel) == round(0.1 * kernel.size)


def test_bound_by_hand():
  # 36,864 weights, a tenth of them stored: 4,608 + 3,686 + 16.
  case = mcu_size.CASES[0]
  encoded = encode_pruned(shrink(mcu_size.converted(case)).model_bytes)
  (largest,) = (each for each in encoded.tensors if each.dense_bytes == 36_864)
  # Quantisation rounds a few small weights to zero.
  assert 4_608 + 16 + 3_600 < largest.stored_bytes <= 4_608 + 16 + 3_686
  stored = sum(each.stored_bytes for each in encoded.tensors)
  assert mcu_size.bound_bytes(encoded) > stored
