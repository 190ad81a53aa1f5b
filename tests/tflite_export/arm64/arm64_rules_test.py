import numpy as np
import pytest

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.arm64 import arm64_rules
from tflite_export.artifacts import VerificationError
from tflite_export.conversion.convert import FORMATS

GOOD = {"relative_error": 0.0, "argmax_agreement": 1.0, "within_quantum": 1.0}


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_a_rule_that_equal_outputs_keep(format):
  arm64_rules.check(arm64_rules.rule_of(format), GOOD)


def test_a_format_without_rule_is_named():
  with pytest.raises(InputError, match="'int4_dense'"):
    arm64_rules.rule_of("int4_dense")


@pytest.mark.parametrize(
  ("format", "figures", "said"),
  [
    ("fp32_sparse", {"relative_error": 1.1e-4}, "must be at most 0.0001"),
    ("fp32_dense", {"relative_error": float("nan")}, "relative nan"),
    ("fp16_sparse", {"relative_error": 1.1e-2}, "Keras model: largest .* at most 0.01"),
    ("fp16_dense", {"argmax_agreement": 0.99}, "same class 0.99, .* least 0.995"),
    ("dynamic_range_dense", {"relative_error": 0.03}, "x86 run: .* most 0.02"),
    ("int8_dense", {"within_quantum": 0.99}, "one quantum 0.99, .* least 0.995"),
  ],
)
def test_a_figure_beyond_its_limit_fails(format, figures, said):
  with pytest.raises(VerificationError, match=said):
    arm64_rules.check(arm64_rules.rule_of(format), GOOD | figures)


@pytest.mark.parametrize(
  ("format", "figures"),
  [
    ("fp32_sparse", {"relative_error": 1e-4, "argmax_agreement": 0.995}),
    ("fp16_sparse", {"relative_error": 1e-2, "argmax_agreement": None}),
    ("int8_dense", {"relative_error": 0.5, "argmax_agreement": 0.5}),
  ],
)
def test_a_figure_at_its_limit_passes_and_so_does_one_without(format, figures):
  arm64_rules.check(arm64_rules.rule_of(format), GOOD | figures)


def test_outputs_one_quantum_away_count_as_near():
  reference = np.array([[0.0, 0.1], [0.2, 0.3]], np.float32)
  outputs = reference + np.array([[0.1, -0.1], [0.2, 0.0]], np.float32)
  assert arm64_rules.within_one(outputs, reference, 0.1) == 0.75


def test_only_integer_outputs_have_a_quantum():
  quantum = arm64_rules.output_quantum(models.converted("int8_dense"))
  assert quantum is not None
  assert quantum > 0
  assert arm64_rules.output_quantum(models.converted("fp16_dense")) is None
