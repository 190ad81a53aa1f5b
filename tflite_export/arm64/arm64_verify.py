"""Checks exported files in LiteRT for ARM64, and compares sparse with dense there."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

import numpy as np

from fedtiny_tff.arrays import Array
from tflite_export.arm64 import arm64, arm64_rules
from tflite_export.artifacts import (
  Artifact,
  ExportBundle,
  ExportRequest,
  VerificationError,
)
from tflite_export.runtimes import compare, litert

MAX_SAMPLES = 200
_TIMED_RUNS = 7


@dataclasses.dataclass(frozen=True)
class Arm64Figures:
  """What was found out about one file: `arm64` of its row in `report.json`.

  Attributes:
    runtime: Name and version of the emulated runtime.
    samples: Evaluation inputs that were run.
    relative_error: Largest difference from the reference of the file's rule, as a
      share of the largest reference magnitude.
    argmax_agreement: Share of the samples of the reference's class; None without
      classes.
    within_quantum: Share of outputs at most one quantum from the x86 run's; None for
      outputs that are no integers.
    emulated_seconds: CPU seconds of the emulator for one inference, the least of
      several. A proxy for the work done: no phone's latency.
    emulated_speedup: Emulated seconds of the dense twin over those of this file; None
      for a dense file. As much a proxy as the seconds.
  """

  runtime: str
  samples: int
  relative_error: float
  argmax_agreement: Optional[float]
  within_quantum: Optional[float]
  emulated_seconds: float
  emulated_speedup: Optional[float]


def verify(
  bundle: ExportBundle, request: ExportRequest, on_checked: Callable[[str], None]
) -> dict[str, Arm64Figures]:
  """Runs every file of a bundle on ARM64, checks it and measures it.

  Args:
    bundle: Files for LiteRT.
    request: What the bundle was made from.
    on_checked: Called after each file whose outputs agree, and then after the files of
      each precision were timed, `count_steps` times in all, with a line about it.

  Returns:
    Figures by the artifact's path.

  Raises:
    VerificationError: A file does not load or run, or disagrees with its reference;
      with the file's path.
    InputError: The emulator is not set up.
  """
  sampled = sample(request)
  reference = compare.keras_outputs(sampled.model, sampled.evaluation_inputs)
  agreements = {}
  for artifact in bundle.artifacts:
    content = bundle.files[artifact.path]
    try:
      found = check_agreement(artifact.format, content, sampled, reference)
    except VerificationError as error:
      raise VerificationError(f"{artifact.path}: {error}") from error
    agreements[artifact.path] = found
    on_checked(f"{artifact.format}: relative error {found['relative_error']:.2g}")
  seconds = emulated_seconds(bundle, on_checked)
  return {
    artifact.path: Arm64Figures(
      runtime=arm64.runtime_name(),
      samples=len(sampled.evaluation_inputs),
      emulated_seconds=seconds[artifact.path],
      emulated_speedup=_speedup(artifact, bundle.artifacts, seconds),
      **agreements[artifact.path],
    )
    for artifact in bundle.artifacts
  }


def sample(request: ExportRequest) -> ExportRequest:
  """Returns a request with at most `MAX_SAMPLES` evaluation examples, evenly spread."""
  count = len(request.evaluation_inputs)
  chosen = np.linspace(0, count - 1, min(count, MAX_SAMPLES)).round().astype(int)
  labels = request.evaluation_labels
  return dataclasses.replace(
    request,
    evaluation_inputs=request.evaluation_inputs[chosen],
    evaluation_labels=None if labels is None else labels[chosen],
  )


def check_agreement(
  format: str, content: bytes, request: ExportRequest, keras_outputs: Array
) -> dict[str, Any]:
  """Runs a file on ARM64 and compares its outputs with the reference of its rule.

  Args:
    format: As in `Artifact.format`.
    content: The file.
    request: The samples.
    keras_outputs: float [N, values] of the Keras model for the samples.

  Returns:
    `relative_error`, `argmax_agreement` and `within_quantum` of `Arm64Figures`.

  Raises:
    VerificationError: The file does not load or run, or breaks its rule.
  """
  rule = arm64_rules.rule_of(format)
  outputs = arm64.run(content, request.evaluation_inputs)
  reference = keras_outputs
  if rule.with_x86:
    reference = litert.run(content, request.evaluation_inputs)
  comparison = compare.compare(request, reference, outputs)
  quantum = arm64_rules.output_quantum(content)
  within = (
    None if quantum is None else arm64_rules.within_one(outputs, reference, quantum)
  )
  found = {
    "relative_error": comparison.relative_error,
    "argmax_agreement": comparison.argmax_agreement,
    "within_quantum": within,
  }
  arm64_rules.check(rule, found)
  return found


def count_steps(bundle: ExportBundle) -> int:
  """Returns how often `verify` tells that it goes on."""
  return len(bundle.artifacts) + len(_by_precision(bundle))


def _by_precision(bundle: ExportBundle) -> dict[str, list[str]]:
  """Returns the paths of files that are timed in turn."""
  groups: dict[str, list[str]] = {}
  for artifact in bundle.artifacts:
    groups.setdefault(arm64_rules.precision(artifact.format), []).append(artifact.path)
  return groups


def emulated_seconds(
  bundle: ExportBundle, on_timed: Callable[[str], None]
) -> dict[str, float]:
  """Measures every file, those of one precision in turn.

  Args:
    bundle: Files that load on ARM64.
    on_timed: Called after the files of each precision, with a line about them.

  Returns:
    `Arm64Figures.emulated_seconds` by path.
  """
  found = {}
  for precision, paths in _by_precision(bundle).items():
    measured = arm64.invoke_seconds([bundle.files[path] for path in paths], _TIMED_RUNS)
    for path, runs in zip(paths, measured, strict=True):
      found[path] = float(runs.min())
    on_timed(f"{precision}: {len(paths)} files timed in turn")
  return found


def _speedup(
  artifact: Artifact, artifacts: Sequence[Artifact], seconds: Mapping[str, float]
) -> Optional[float]:
  """Returns `Arm64Figures.emulated_speedup` of one file."""
  twin = f"{arm64_rules.precision(artifact.format)}_dense"
  dense = [seconds[other.path] for other in artifacts if other.format == twin]
  if artifact.format == twin or not dense:
    return None
  return dense[0] / seconds[artifact.path]
