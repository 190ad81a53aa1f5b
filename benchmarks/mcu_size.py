"""Bytes of MLPerf Tiny's four models for microcontrollers, 90 % of the weights removed.

Weights are seeded and random, biases are not zero: the converter would drop those.
`bound_bytes` is n/8 + values + 16 for an encoded tensor, 4 for a bias and a scale, and
the values of constants that stay dense; what a file takes above it is tables, offsets
and alignment. A straightforward encoder leaves names and repetitions in. `ms` is the
fastest inference with TFLM's reference kernels on this machine. Published sizes: MLPerf
Tiny's int8 reference files (arXiv 2106.07597).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf
from tflite_micro.python.tflite_micro import runtime

from benchmarks import results_file
from fedtiny_tff.models import registry
from tflite_export.conversion.convert import convert
from tflite_export.decode.tflm_decode import EncodedModel, encode_pruned
from tflite_export.decode.tflm_shrink import shrink
from tflite_export.file_format import flatbuffer_model, flatbuffer_writer
from tflite_export.runtimes import quantisation, tflm

DENSITY = 0.1
_INPUTS = 8
_REPEATS = 50
_ARENA_BYTES = 1 << 20


class Case(NamedTuple):
  """A model of MLPerf Tiny and the size of its published int8 file."""

  model: str
  input_shape: tuple[int, ...]
  classes: Optional[int]
  published_bytes: int


CASES = (
  Case("resnet8", (32, 32, 3), 10, 98_496),
  Case("ds_cnn", (49, 10, 1), 12, 53_936),
  Case("mobilenet_v1_025", (96, 96, 3), 2, 333_288),
  Case("autoencoder", (640,), None, 276_976),
)


def pruned_model(case: Case) -> tf.keras.Model:
  """Returns the model with seeded weights and exactly a tenth of each prunable kernel."""
  found = registry.get_model(case.model, case.input_shape, case.classes)
  model = found.build()
  found.set_initial_weights(model, 0)
  generator = np.random.default_rng(0)
  for variable in model.variables:
    if variable.name.endswith(("beta:0", "bias:0", "moving_mean:0")):
      variable.assign(generator.normal(scale=0.1, size=variable.shape))
    if variable.name.endswith(("gamma:0", "moving_variance:0")):
      variable.assign(generator.uniform(0.5, 1.5, variable.shape))
  for layer in found.spec.layers:
    kernel = model.get_layer(layer.name).kernel
    mask = np.zeros(layer.size, np.float32)
    mask[generator.permutation(layer.size)[: round(DENSITY * layer.size)]] = 1
    # What stays grows, as in training: else little of the input reaches the output.
    kernel.assign(kernel.numpy() * mask.reshape(layer.shape) / np.sqrt(DENSITY))
  return model


def inputs(case: Case) -> np.ndarray:
  """Returns the examples that calibrate and are computed."""
  generator = np.random.default_rng(1)
  return generator.normal(size=(_INPUTS, *case.input_shape)).astype(np.float32)


def converted(case: Case) -> bytes:
  """Returns the converter's file."""
  return convert(pruned_model(case), "int8_dense", inputs(case))


def bound_bytes(encoded: EncodedModel) -> int:
  """Returns what constants and scales take without anything around them."""
  model = flatbuffer_model.read_model(encoded.model_bytes)
  scales = sum(
    len(tensor.quantization.scale)
    for subgraph in model.subgraphs
    for tensor in subgraph.tensors
    if tensor.quantization is not None and tensor.quantization.scale is not None
  )
  return 4 * scales + sum(each.stored_bytes for each in encoded.tensors)


def _repeating(model_bytes: bytes) -> bytes:
  """Returns the same model with equal parts written as often as they occur."""
  return flatbuffer_writer.write_model(flatbuffer_model.read_model(model_bytes))


def _inference(model_bytes: bytes, row: np.ndarray) -> Callable[[], None]:
  """Returns a call that computes one output."""
  interpreter = runtime.Interpreter.from_bytes(model_bytes, arena_size=_ARENA_BYTES)
  stored = quantisation.stored_inputs(row, interpreter.get_input_details(0))

  def infer() -> None:
    interpreter.set_input(stored, 0)
    interpreter.invoke()

  return infer


def _measure(case: Case) -> dict[str, Any]:
  # TFF takes ten seconds to import, and tests read the rest of this module.
  from benchmarks.rounds_under_test import fastest_seconds

  content, rows = converted(case), inputs(case)
  dense = shrink(content).model_bytes
  encoded = encode_pruned(dense)
  files = {
    "converted": content,
    "straightforward": _repeating(encode_pruned(content).model_bytes),
    "dense": dense,
    "encoded": encoded.model_bytes,
  }
  runs = {name: tflm.run(file, rows) for name, file in files.items()}
  for run in runs.values():
    np.testing.assert_array_equal(run.stored_outputs, runs["converted"].stored_outputs)
  calls = {name: _inference(files[name], rows[:1]) for name in ("dense", "encoded")}
  seconds = fastest_seconds(calls, _REPEATS)
  bound = bound_bytes(encoded)
  return {
    "model": case.model,
    "published_bytes": case.published_bytes,
    "converted_bytes": len(content),
    "dense_bytes": len(dense),
    "straightforward_bytes": len(files["straightforward"]),
    "bytes": len(encoded.model_bytes),
    "bound_bytes": bound,
    "overhead_bytes": len(encoded.model_bytes) - bound,
    "dense_arena_bytes": runs["dense"].arena.used_bytes,
    "arena_bytes": runs["encoded"].arena.used_bytes,
    "dense_ms": 1000 * seconds["dense"],
    "ms": 1000 * seconds["encoded"],
  }


def main() -> None:
  """Weighs and times every model."""
  results_file.publish("mcu_size", [_measure(case) for case in CASES])


if __name__ == "__main__":
  main()
