"""When a file's outputs on ARM64 count as right, by its format."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.artifacts import VerificationError
from tflite_export.file_format import flatbuffer_model


@dataclasses.dataclass(frozen=True)
class AgreementRule:
  """How closely a file's outputs on ARM64 must agree with a reference.

  Attributes:
    with_x86: Whether the reference is the same file's run on this machine, and not
      the Keras model: what quantisation itself costs is no fault of ARM's.
    max_relative_error: Largest difference allowed, as a share of the largest
      reference magnitude; None where outputs are integers.
    min_argmax_agreement: Least share of rows of the same class; None where classes
      may tie, as integers do.
    min_within_quantum: Least share of outputs at most one quantum from the
      reference's; None where outputs are real numbers.
  """

  with_x86: bool
  max_relative_error: Optional[float]
  min_argmax_agreement: Optional[float]
  min_within_quantum: Optional[float]


# By `precision`. Dynamic range: both machines round activations to 8 bits, 1/255 of a
# row's range; sums in another order flip a rounding now and then, and a flip moves an
# output by a part of such a step. 2e-2 is five whole steps.
AGREEMENT_RULES: dict[str, AgreementRule] = {
  "fp32": AgreementRule(False, 1e-4, 0.995, None),
  "fp16": AgreementRule(False, 1e-2, 0.995, None),
  "dynamic_range": AgreementRule(True, 2e-2, 0.995, None),
  "int8": AgreementRule(True, None, None, 0.995),
}


def precision(format: str) -> str:
  """Returns a format's name without `_sparse` or `_dense`: twins have it in common."""
  return format.removesuffix("_sparse").removesuffix("_dense")


def rule_of(format: str) -> AgreementRule:
  """Returns the rule of a format.

  Raises:
    InputError: There is none.
  """
  if precision(format) not in AGREEMENT_RULES:
    raise InputError(
      f"there is no rule for format {format!r} on ARM64; add it to AGREEMENT_RULES"
    )
  return AGREEMENT_RULES[precision(format)]


def check(rule: AgreementRule, found: Mapping[str, Optional[float]]) -> None:
  """Holds figures to a rule; what has no limit, or no figure, passes.

  Raises:
    VerificationError: With the figure and its limit.
  """
  # A sign of -1 turns "at most" into "at least".
  limits: Sequence[tuple[str, str, Optional[float], int]] = (
    ("largest output error, relative", "relative_error", rule.max_relative_error, 1),
    ("same class", "argmax_agreement", rule.min_argmax_agreement, -1),
    ("outputs within one quantum", "within_quantum", rule.min_within_quantum, -1),
  )
  against = "the x86 run" if rule.with_x86 else "the Keras model"
  for what, name, limit, sign in limits:
    figure = found[name]
    # Written so that a NaN fails.
    if limit is None or figure is None or sign * figure <= sign * limit:
      continue
    raise VerificationError(
      f"on ARM64 against {against}: {what} {figure:.4g}, must be at "
      f"{'most' if sign > 0 else 'least'} {limit:g}"
    )


def within_one(outputs: Array, reference: Array, quantum: float) -> float:
  """Returns the share of outputs at most one quantum from the reference's.

  Args:
    outputs: float32 [N, values], dequantised: whole multiples of the quantum apart.
    reference: Likewise.
    quantum: What one step of the stored integers stands for.
  """
  difference = np.abs(outputs.astype(np.float64) - reference) / quantum
  return float(np.mean(np.rint(difference) <= 1))


def output_quantum(content: bytes) -> Optional[float]:
  """Returns what one step of a file's integer output stands for; None for floats."""
  graph = flatbuffer_model.read_model(content).subgraphs[0]
  quantization = graph.tensors[graph.outputs[0]].quantization
  scales = None if quantization is None else quantization.scale
  return None if scales is None or not len(scales) else float(scales[0])
