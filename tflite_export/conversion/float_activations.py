"""Computes all activations of a float `.tflite` file, and their ranges on samples."""

import itertools
import warnings
from collections.abc import Iterator

import numpy as np
from ai_edge_litert import interpreter as litert

from fedtiny_tff.arrays import Array
from fedtiny_tff.masked_models import activation_ranges as measured
from tflite_export import native_output
from tflite_export.artifacts import VerificationError
from tflite_export.file_format import flatbuffer_model
from tflite_export.file_format.activation_ranges import (
  ActivationRanges,
  activation_indices,
  activations,
)


def _each(float_file: bytes, rows: Array) -> Iterator[list[Array]]:
  """Yields the activations of one row after the other."""
  indices = activation_indices(flatbuffer_model.read_model(float_file))
  try:
    with native_output.captured_stderr(), warnings.catch_warnings():
      # It warns that keeping all tensors takes memory.
      warnings.simplefilter("ignore")
      interpreter = litert.Interpreter(
        model_content=float_file,
        experimental_preserve_all_tensors=True,
        # XNNPACK does not show the tensors within what it runs.
        experimental_op_resolver_type=(
          litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
        num_threads=1,
      )
      interpreter.allocate_tensors()
    [source] = interpreter.get_input_details()
    for row in rows:
      interpreter.set_tensor(source["index"], row[np.newaxis])
      interpreter.invoke()
      yield [interpreter.get_tensor(index) for index in indices]
  except (ValueError, RuntimeError) as error:
    raise VerificationError(f"LiteRT cannot run the float file: {error}") from error


def batches(float_file: bytes, rows: Array, size: int) -> Iterator[list[Array]]:
  """Yields the activations, float32 [size, ...] each, in the file's order.

  Args:
    float_file: A file as `convert.float_file` gives it.
    rows: float32 [N, ...], N a multiple of `size`.
    size: Rows at a time.

  Raises:
    VerificationError: LiteRT does not run the file.
    InputError: The file has control flow.
  """
  each = _each(float_file, rows)
  for first in each:
    others = itertools.islice(each, size - 1)
    yield [np.concatenate(values) for values in zip(first, *others, strict=True)]


def percentile_ranges(
  float_file: bytes, rows: Array, percentile: float
) -> ActivationRanges:
  """Measures the ranges on samples at hand, and cuts their tails.

  The rule is `fedtiny_tff.masked_models.activation_ranges.cut_tails`, as for clients.

  Args:
    float_file: A file as `convert.float_file` gives it.
    rows: float32 [N, ...], N at least 1.
    percentile: In (50, 100].

  Raises:
    VerificationError: LiteRT does not run the file.
    InputError: The file has control flow, or an activation is not finite.
  """
  names = activations(float_file)
  extremes = [
    [(value.min(), value.max()) for value in values]
    for values in _each(float_file, rows)
  ]
  low, high = np.moveaxis(np.asarray(extremes, np.float32), 2, 0)
  whole = measured.Ranges(low.min(axis=0), high.max(axis=0))
  # Raises what cannot be counted.
  ActivationRanges(names, *whole)
  counts = np.zeros((len(names), measured.BINS), np.int64)
  for values in _each(float_file, rows):
    for index, (value, *ends) in enumerate(zip(values, *whole, strict=True)):
      # A constant activation has no parts to count in.
      if ends[0] < ends[1]:
        within = (float(ends[0]), float(ends[1]))
        counts[index] += np.histogram(value, measured.BINS, within)[0]
  return ActivationRanges(names, *measured.cut_tails(counts, whole, percentile))
