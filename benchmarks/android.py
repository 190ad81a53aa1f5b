"""What sparse files save on Android: bytes, and work under emulated ARM64.

MobileNets of which random 90 % of the 1×1 convolutions' weights are zero, 96×96 images.
`emulated_speedup` is the dense twin's time over the sparse file's: a proxy, see
`tflite_export.arm64.arm64`. Needs `make arm64`.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import results_file
from fedtiny_tff import seeds, tasks
from fedtiny_tff.models import registry
from fedtiny_tff.version import VERSION
from tflite_export.android import android
from tflite_export.arm64 import arm64_setup, arm64_verify
from tflite_export.artifacts import ExportRequest
from tflite_export.conversion.convert import convert
from tflite_export.conversion.sparsify import sparsify
from tflite_export.provenance import Provenance
from tflite_export.xnnpack import eligibility

_SHAPE = (96, 96, 3)
_CLASSES = 10
_DENSITY = 0.1
_EXAMPLES = 16
# Channels behind the stem of a MobileNet that is small even for a microcontroller.
_SMALL = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1))


def small_mobilenet() -> tf.keras.Model:
  """Returns a MobileNetV1-like network of about 37,000 parameters."""
  keras = tf.keras.layers
  inputs = keras.Input(_SHAPE)
  x = keras.ZeroPadding2D(1)(inputs)
  x = keras.Conv2D(16, 3, 2, use_bias=False, name="stem")(x)
  x = keras.ReLU(6.0)(keras.BatchNormalization()(x))
  for number, (channels, stride) in enumerate(_SMALL):
    x = keras.ZeroPadding2D(1)(x)
    x = keras.DepthwiseConv2D(3, stride, use_bias=False)(x)
    x = keras.ReLU(6.0)(keras.BatchNormalization()(x))
    x = keras.Conv2D(channels, 1, use_bias=False, name=f"pointwise_{number}")(x)
    x = keras.ReLU(6.0)(keras.BatchNormalization()(x))
  x = keras.Dense(_CLASSES, name="logits")(keras.GlobalAveragePooling2D()(x))
  return tf.keras.Model(inputs, x, name="small_mobilenet")


def _of_width(width: float) -> tf.keras.Model:
  return registry.get_model("mobilenet_v1_sparse", _SHAPE, _CLASSES, width).build()


_MODELS: dict[str, Callable[[], tf.keras.Model]] = {
  "small_mobilenet": small_mobilenet,
  "mobilenet_v1_sparse width 0.25": lambda: _of_width(0.25),
  "mobilenet_v1_sparse width 0.5": lambda: _of_width(0.5),
}


def prune(model: tf.keras.Model, seed: int = 0) -> dict[str, np.ndarray]:
  """Gives every variable a value and zeroes 90 % of each 1×1 convolution, in place."""
  generator = seeds.generator(seed, "android benchmark")
  masks = {}
  for variable in model.variables:
    fan_in = max(1, int(np.prod(variable.shape[:-1])))
    values = generator.normal(size=variable.shape) * np.sqrt(2.0 / fan_in)
    if variable.name.endswith(("moving_variance:0", "gamma:0")):
      values = 0.5 + np.abs(values)
    variable.assign(values.astype(np.float32))
  for layer in model.layers:
    if type(layer) is tf.keras.layers.Conv2D and layer.kernel_size == (1, 1):
      size = int(np.prod(layer.kernel.shape))
      mask = np.zeros(size, bool)
      mask[generator.permutation(size)[: int(_DENSITY * size)]] = True
      masks[layer.name] = mask.reshape(layer.kernel.shape)
      # What stays grows, as in training: else little of the input reaches the output.
      scaled = layer.kernel.numpy() * masks[layer.name] / np.sqrt(_DENSITY)
      layer.kernel.assign(scaled)
  return masks


def request(name: str, model: tf.keras.Model) -> ExportRequest:
  """Returns what the exporter is given: a pruned model and noise as examples."""
  masks = prune(model)
  examples = seeds.generator(0, "android examples").normal(size=(_EXAMPLES, *_SHAPE))
  examples = examples.astype(np.float32)
  return ExportRequest(
    model=model,
    masks=masks,
    task=tasks.CLASSIFY,
    calibration=examples,
    evaluation_inputs=examples,
    evaluation_labels=None,
    class_names=tuple(str(number) for number in range(_CLASSES)),
    provenance=Provenance(name, VERSION, "CC0-1.0", "Random.", {}, "Noise.", "noise"),
  )


def sizes(made: ExportRequest) -> dict[str, float]:
  """Returns bytes without metadata against the dense float32 file's."""
  dense = {name: convert(made.model, f"{name}_dense") for name in ("fp32", "fp16")}
  whole = len(dense["fp32"])
  return {
    "fp32_dense_bytes": whole,
    **{f"{name}_sparse_ratio": len(sparsify(dense[name])) / whole for name in dense},
  }


def _measure(name: str) -> dict[str, Any]:
  made = request(name, _MODELS[name]())
  bundle = android.export_android(made)
  figures = arm64_verify.verify(bundle, made, lambda line: None)
  by_format = {row.format: figures[row.path] for row in bundle.artifacts}
  eligible = eligibility.inspect(bundle.files["android/fp32_sparse.tflite"]).eligible
  return {
    "model": name,
    "parameters": made.model.count_params(),
    **sizes(made),
    **{
      f"{kind}_emulated_speedup": by_format[f"{kind}_sparse"].emulated_speedup
      for kind in ("fp32", "fp16")
    },
    "eligible": eligible,
    "files_that_load": len(figures),
    "largest_relative_error": max(
      by_format[f"fp32_{kind}"].relative_error for kind in ("dense", "sparse")
    ),
  }


def main() -> None:
  """Measures every model."""
  if problem := arm64_setup.problem():
    sys.exit(f"benchmarks.android: {problem}")
  results_file.publish("android", [_measure(name) for name in _MODELS])


if __name__ == "__main__":
  main()
