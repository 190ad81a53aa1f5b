"""Exports a sparse model for microcontrollers that run TFLM.

Firmware gets the file whose pruned tensors are stored compactly, as C++ sources; its
dense twin says what pruning gained. Both are run in TFLM here, and nothing is
returned unless they compute the same integers.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np

from fedtiny_tff.errors import InputError
from tflite_export import (
  c_source,
  compare,
  flatbuffer_model,
  tflm,
  tflm_decode,
  weights,
)
from tflite_export.artifacts import (
  Artifact,
  ExportBundle,
  ExportRequest,
  VerificationError,
)
from tflite_export.convert import convert

MODEL_PATH = "mcu/model.tflite"
DENSE_PATH = "mcu/model_dense.tflite"


@dataclasses.dataclass(frozen=True)
class _Verified:
  """The encoded file, its dense twin, and what was measured on both."""

  dense_bytes: bytes
  encoded: tflm_decode.EncodedModel
  dense_arena: tflm.Arena
  arena: tflm.Arena
  density: float
  comparison: compare.Comparison


def export_mcu(request: ExportRequest) -> ExportBundle:
  """Converts, encodes, verifies and writes firmware sources.

  Args:
    request: The model; its outputs are compared on `evaluation_inputs`.

  Returns:
    `mcu/model.tflite` (format int8_decode), `mcu/model_dense.tflite` (int8_dense),
    C++ sources of the first and `mcu/README.md`. When encoding saves nothing, both
    files are the same and the README says so.

  Raises:
    InputError: The model or the data cannot be exported.
    VerificationError: A file does not load in TFLM, the two differ in an output or a
      decoded weight, or a masked weight is not zero.
  """
  verified = _verify(
    request, convert(request.model, "int8_dense", request.calibration_inputs)
  )
  sources = c_source.c_sources(
    verified.encoded.model_bytes, request.class_names, verified.arena.recommended_bytes
  )
  texts = {**sources, "README.md": _readme(verified)}
  return ExportBundle(
    files={
      MODEL_PATH: verified.encoded.model_bytes,
      DENSE_PATH: verified.dense_bytes,
      **{f"mcu/{name}": text.encode("utf-8") for name, text in texts.items()},
    },
    artifacts=_artifacts(verified),
  )


def _verify(request: ExportRequest, dense_bytes: bytes) -> _Verified:
  """Encodes the dense file and checks both files in TFLM."""
  reference = compare.keras_outputs(request.model, request.evaluation_inputs)
  with _naming(DENSE_PATH):
    masked = weights.check_masked_zeros(dense_bytes, request.masks)
    dense_run = tflm.run(dense_bytes, request.evaluation_inputs)
  with _naming(MODEL_PATH):
    encoded = tflm_decode.encode_pruned(dense_bytes)
    run = tflm.run(encoded.model_bytes, request.evaluation_inputs)
    check_identical(dense_run.stored_outputs, run.stored_outputs)
    check_decoded(dense_bytes, encoded)
  return _Verified(
    dense_bytes=dense_bytes,
    encoded=encoded,
    dense_arena=dense_run.arena,
    arena=run.arena,
    density=masked.density,
    comparison=compare.compare(reference, run.outputs, request.evaluation_labels),
  )


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
  """Puts the file's path into errors about it.

  The bytes are the converter's or the encoder's: what is wrong with them is no fault
  of the user's input.
  """
  try:
    yield
  except (InputError, VerificationError) as error:
    raise VerificationError(f"{path}: {error}") from error


def check_identical(dense_outputs: np.ndarray, outputs: np.ndarray) -> None:
  """Checks that both files gave the same integers.

  Args:
    dense_outputs: Stored outputs [N, classes] of the dense file.
    outputs: Those of the encoded file.

  Raises:
    VerificationError: They differ; with the number of rows and the largest difference.
  """
  if np.array_equal(dense_outputs, outputs):
    return
  if dense_outputs.shape != outputs.shape:
    raise VerificationError(
      f"the encoded file's outputs are {list(outputs.shape)}, the dense file's "
      f"{list(dense_outputs.shape)}"
    )
  difference = np.abs(outputs.astype(np.float64) - dense_outputs.astype(np.float64))
  rows = int(difference.reshape(len(outputs), -1).any(axis=1).sum())
  raise VerificationError(
    f"the encoded file differs from the dense one on {rows} of {len(outputs)} inputs, "
    f"by up to {difference.max():g}"
  )


def check_decoded(dense_bytes: bytes, encoded: tflm_decode.EncodedModel) -> None:
  """Checks that TFLM decodes each encoded tensor to its values in the dense file.

  Outputs alone could agree by chance, for instance behind a ReLU that is never on.

  Args:
    dense_bytes: The dense `.tflite`.
    encoded: Its encoded form.

  Raises:
    VerificationError: A tensor differs; with its name and the number of values.
  """
  model = tflm_decode.read_model(dense_bytes)
  reports = [report for report in encoded.tensors if report.encoded]
  places = [(report.subgraph, report.index) for report in reports]
  decoded = tflm.read_tensors(encoded.model_bytes, places)
  for report, values in zip(reports, decoded, strict=True):
    tensor = model.subgraphs[report.subgraph].tensors[report.index]
    wanted = flatbuffer_model.constant(model, tensor)
    if values.shape != wanted.shape or values.tobytes() != wanted.tobytes():
      differing = (
        int((values != wanted).sum()) if values.shape == wanted.shape else "all"
      )
      raise VerificationError(
        f"tensor {report.name!r}: {differing} of {wanted.size} values differ after DECODE"
      )


def _artifacts(verified: _Verified) -> tuple[Artifact, ...]:
  """Returns the report rows of both files."""
  dense_bytes = len(verified.dense_bytes)
  rows = (
    (MODEL_PATH, "int8_decode", len(verified.encoded.model_bytes), verified.arena),
    (DENSE_PATH, "int8_dense", dense_bytes, verified.dense_arena),
  )
  return tuple(
    Artifact(
      path=path,
      target="mcu",
      format=format,
      bytes=size,
      dense_bytes=dense_bytes,
      density=verified.density,
      accuracy=verified.comparison.accuracy,
      argmax_agreement=verified.comparison.argmax_agreement,
      max_abs_error=verified.comparison.max_abs_error,
      runtime=tflm.runtime_name(),
      arena_bytes=arena.recommended_bytes,
    )
    for path, format, size, arena in rows
  )


_README = """# Model for TensorFlow Lite Micro

| | model.tflite | model_dense.tflite |
|---|---|---|
| flash for the model, bytes | {flash} | {dense_flash} |
| tensor arena to declare, bytes | {arena} | {dense_arena} |
| of it measured, bytes | {used} | {dense_used} |

{gain}
The arena was measured in {runtime} on a 64-bit machine.
To that, 5 % and 1 KiB are added: temporary allocations are not recorded, and a target's
optimised kernels may need scratch memory. Kernel code is not counted.

- accuracy on the evaluation data: {accuracy}
- same class as the Keras model: {agreement:.2%} of the evaluation inputs
- non-zero weights in the pruned layers: {density:.2%}
- operators: {operators}

## Tensors

| tensor | dense bytes | stored bytes | why dense |
|---|---|---|---|
{tensors}

## Use

Compile `model_data.cc` with the firmware. The sources belong to `model.tflite`.
{requirement}
```cpp
#include <cstdint>

#include "arena.h"
#include "model_data.h"
#include "model_settings.h"
#include "op_resolver.h"
#include "tensorflow/lite/micro/micro_interpreter.h"

alignas(16) static uint8_t arena[fedtiny_model::kArenaBytes];

tflite::MicroInterpreter* Setup() {{  // nullptr: the arena or an operator is missing
  static fedtiny_model::OpResolver resolver;
  if (fedtiny_model::RegisterOps(resolver) != kTfLiteOk) return nullptr;
  static tflite::MicroInterpreter interpreter(
      tflite::GetModel(fedtiny_model::kModelData), resolver, arena, sizeof(arena));
  return interpreter.AllocateTensors() == kTfLiteOk ? &interpreter : nullptr;
}}
```

Write `real / kInputScale + kInputZeroPoint` to `input(0)->data`, call `Invoke()`, and
look up the largest of `output(0)->data` in `kClassNames`.
"""
_DECODE_REQUIREMENT = """It needs a TFLM with type PRUNING of operator DECODE, as {runtime}.
Weights are decoded into the arena while the model runs, so a kernel that reads them in
Prepare sees none: compare the outputs of optimised kernels with the reference once.
"""


def _readme(verified: _Verified) -> str:
  """Returns what a firmware developer needs to know, in Markdown."""
  saved = len(verified.dense_bytes) - len(verified.encoded.model_bytes)
  gain = f"Storing zeros as single bits saves {saved} bytes of flash."
  if not saved:
    gain = (
      "No tensor has enough zeros for compact storage to save bytes: both are equal."
    )
  accuracy = verified.comparison.accuracy
  functions = c_source.resolver_functions(verified.encoded.model_bytes)
  return _README.format(
    flash=len(verified.encoded.model_bytes),
    dense_flash=len(verified.dense_bytes),
    arena=verified.arena.recommended_bytes,
    dense_arena=verified.dense_arena.recommended_bytes,
    used=verified.arena.used_bytes,
    dense_used=verified.dense_arena.used_bytes,
    gain=gain,
    runtime=tflm.runtime_name(),
    accuracy="not known (no labels)" if accuracy is None else f"{accuracy:.2%}",
    agreement=verified.comparison.argmax_agreement,
    density=verified.density,
    operators=", ".join(function.removeprefix("Add") for function in functions),
    tensors="\n".join(map(_tensor_row, verified.encoded.tensors)),
    requirement=_DECODE_REQUIREMENT.format(runtime=tflm.runtime_name())
    if saved
    else "",
  )


def _tensor_row(report: tflm_decode.TensorReport) -> str:
  """Returns one line of the README's table of tensors."""
  # A bar would end the cell; names come from the model's author.
  name = " ".join(report.name.split()).replace("|", "\\|")
  sizes = f"{report.dense_bytes} | {report.stored_bytes}"
  return f"| {name} | {sizes} | {report.left_dense_because} |"
