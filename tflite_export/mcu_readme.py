"""Writes what a firmware developer needs to know about a pair of files, in Markdown."""

from tflite_export import tflm
from tflite_export.compare import Comparison
from tflite_export.mcu_verify import VerifiedPair
from tflite_export.resolver_functions import resolver_functions
from tflite_export.tflm_decode import TensorReport

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

Both files compute the same int8 numbers:

{quality}
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

{reading}
"""
_READ_CLASSES = """Write `real / kInputScale + kInputZeroPoint` to `input(0)->data`, call `Invoke()`, and
look up the largest of `output(0)->data` in `kClassNames`."""
_READ_RECONSTRUCTION = """Write `real / kInputScale + kInputZeroPoint` to `input(0)->data` and call `Invoke()`.
`output(0)->data` holds the input again: the mean of the squared differences between
`kOutputScale * (stored - kOutputZeroPoint)` and the real input is the anomaly score."""
_DECODE_REQUIREMENT = """It needs a TFLM with type PRUNING of operator DECODE, as {runtime}.
Weights are decoded into the arena while the model runs, so a kernel that reads them in
Prepare sees none: compare the outputs of optimised kernels with the reference once.
"""


def readme(verified: VerifiedPair) -> str:
  """Returns the text."""
  saved = len(verified.dense_bytes) - len(verified.encoded.model_bytes)
  gain = f"Storing zeros as single bits saves {saved} bytes of flash."
  if not saved:
    gain = (
      "No tensor has enough zeros for compact storage to save bytes: both are equal."
    )
  agreement = verified.comparison.argmax_agreement
  functions = resolver_functions(verified.encoded.model_bytes)
  return _README.format(
    flash=len(verified.encoded.model_bytes),
    dense_flash=len(verified.dense_bytes),
    arena=verified.arena.recommended_bytes,
    dense_arena=verified.dense_arena.recommended_bytes,
    used=verified.arena.used_bytes,
    dense_used=verified.dense_arena.used_bytes,
    gain=gain,
    runtime=tflm.runtime_name(),
    quality="\n".join(_quality_rows(verified.comparison)),
    reading=_READ_RECONSTRUCTION if agreement is None else _READ_CLASSES,
    density=verified.density,
    operators=", ".join(function.removeprefix("Add") for function in functions),
    tensors="\n".join(map(_tensor_row, verified.encoded.tensors)),
    requirement=_DECODE_REQUIREMENT.format(runtime=tflm.runtime_name())
    if saved
    else "",
  )


def _quality_rows(comparison: Comparison) -> list[str]:
  """Returns what is known about the outputs, a line each."""
  if comparison.argmax_agreement is None:
    auc = "not known (no anomalies)" if comparison.auc is None else f"{comparison.auc:.4f}"
    return [
      f"- area under the ROC curve on the evaluation data: {auc}",
      f"- largest difference from the float model: {comparison.max_abs_error:.3g}",
    ]
  accuracy = comparison.accuracy
  known = "not known (no labels)" if accuracy is None else f"{accuracy:.2%}"
  return [
    f"- accuracy on the evaluation data: {known}",
    f"- same class as the float model: {comparison.argmax_agreement:.2%} of the "
    "evaluation inputs",
  ]


def _tensor_row(report: TensorReport) -> str:
  """Returns one line of the README's table of tensors."""
  # A bar would end the cell; names come from the model's author.
  name = " ".join(report.name.split()).replace("|", "\\|")
  sizes = f"{report.dense_bytes} | {report.stored_bytes}"
  return f"| {name} | {sizes} | {report.left_dense_because} |"
