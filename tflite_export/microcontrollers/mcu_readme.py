"""Writes what a firmware developer needs to know about a pair of files, in Markdown."""

import dataclasses
from typing import Optional

from fedtiny_tff.data.preprocessing import Preprocessing
from tflite_export.conversion.convert_mcu import McuSettings
from tflite_export.decode.tflm_decode import TensorReport
from tflite_export.mcu_options import McuOptions
from tflite_export.microcontrollers import mcu_peaks
from tflite_export.microcontrollers.mcu_budget import Footprint
from tflite_export.microcontrollers.mcu_scores import Scores
from tflite_export.microcontrollers.mcu_verify import VerifiedPair
from tflite_export.microcontrollers.resolver_functions import resolver_functions
from tflite_export.runtimes import tflm
from tflite_export.runtimes.compare import Comparison
from tflite_export.texts.markdown_text import escaped
from tflite_export.texts.raw_layout import RawLayout

_README = """# Model for TensorFlow Lite Micro

| bytes | model.tflite | model_dense.tflite |
|---|---|---|
| flash for the model | {flash} | {dense_flash} |
| flash for names, shapes and means | {arrays} | {arrays} |
| RAM: tensor arena to declare | {arena} | {dense_arena} |
| of it measured | {used} | {dense_used} |
| measured: activations | {head} | {dense_head} |
| measured: kept by TFLM and kernels | {tail} | {dense_tail} |

{gain}
{growth}{budgets}
Without what TFLM does not read, the dense file would take {shrunk} bytes. {left_out}

Code of the interpreter and of kernels is not counted, nor is the firmware's own memory.
The arena was measured in {runtime} on a 64-bit machine.
To that, 5 % and 1 KiB are added: temporary allocations are not recorded, and a target's
optimised kernels may need scratch memory.

Both files compute the same {numbers} numbers, bit for bit:

{quality}
- non-zero weights in the pruned layers: {density:.2%}
- operators: {operators}

## Tensors

{peak}
| tensor | dense bytes | stored bytes | in the arena while decoded | form, or why dense |
|---|---|---|---|---|
{tensors}

## Use

{use}"""
_USE = """Copy the `.h` and `.cc` files into the firmware; they belong to `model.tflite`, which the
firmware itself does not need. `main_functions.cc` is a complete example, but for the
input: {fill}.
{preprocessing}{requirement}
With CMake:

```cmake
target_sources(firmware PRIVATE model_data.cc main_functions.cc)
target_include_directories(firmware PRIVATE ${{CMAKE_CURRENT_LIST_DIR}})
target_link_libraries(firmware PRIVATE tflite-micro)
```

There `tflite-micro` stands for the target that TFLM is in your build, or for its
`libtensorflow-microlite.a` with the include folders that follow.

With Make:

```make
SRCS += model_data.cc main_functions.cc
TFLM_DOWNLOADS := $(TFLM_DIR)/tensorflow/lite/micro/tools/make/downloads
CXXFLAGS += -I. -I$(TFLM_DIR) -I$(TFLM_DOWNLOADS)/flatbuffers/include
CXXFLAGS += -I$(TFLM_DOWNLOADS)/gemmlowp -I$(TFLM_DOWNLOADS)/ruy
LDLIBS += -ltensorflow-microlite
```

The order of calls:

```cpp
#include "main_functions.h"

int main() {{
  setup();
  while (true) {{
    loop();
  }}
}}
```

Without the example: register operators with `RegisterOps`, give the interpreter
`g_model` and an array of `kArenaBytes` aligned to 16 bytes, call `AllocateTensors()`.
{reading}

## Is the build right?

`golden_vectors.cc` has inputs drawn at random, and what TFLM's reference kernels make of them.
Compile it too, and call once, after `AllocateTensors()`:

```cpp
#include "golden_vectors.h"

if (fedtiny_model::GoldenDifference(interpreter) != 0) {{
  // Another model, damaged flash, or kernels that round otherwise.
}}
```

Kernels of the reference give 0. Optimised ones may be some steps apart in int8; many steps are
a mistake. What nothing calls takes no flash.

## Comparing with model_dense.tflite

Its outputs are the same bit for bit, and it needs no operator DECODE. To compare them once
on your target, make a header of it:

```sh
xxd -i model_dense.tflite |
  sed '1s/^unsigned/alignas(16) static const unsigned/' > model_dense_data.h
```

Include it in a copy of `main_functions.cc`, give `tflite::GetModel` the array
`model_dense_tflite` instead of `g_model`, and an arena of {dense_arena} bytes instead of
`kArenaBytes`. {dense_operators}
"""
_SAME_OPERATORS = "Operators are the same."
_FEWER_OPERATORS = """`RegisterOps` registers DECODE too, which does no harm; for a TFLM that
lacks it, leave out `AddDecode` and set the number of operators in `OpResolver` to {count}."""
_WRITE = """Write `real / kInputScale + kInputZeroPoint`, rounded and clamped to the limits of
`InputType`, to `input(0)->data`: `Stored` in `main_functions.cc` does that.{real} """
_WRITE_FLOAT = "Write real inputs to `input(0)->data`.{real} "
_REAL = "\n`real` is `ModelInput(raw, place)`, with the raw value of that place."
_READ_CLASSES = """Call `Invoke()`, and
look up the largest of `output(0)->data` in `kClassNames`."""
_READ_VALUE = """Call `Invoke()`.
`kOutputScale * (output(0)->data[0] - kOutputZeroPoint)` is the one value that the model gives."""
_READ_RECONSTRUCTION = """Call `Invoke()`.
`output(0)->data` holds the input again: the mean of the squared differences between
`kOutputScale * (stored - kOutputZeroPoint)` and the real input is the anomaly score."""
_SCORES = """

| of {samples} calibration samples | score at most | constant in `model_settings.h` |
|---|---|---|
{rows}

A score above one of these is odd, as a first threshold. Where the samples come from:
{source} The test split has no say in it. Samples that training has seen score
lower than what firmware will meet: try the threshold on recordings of your own."""
_NO_SCORES = """
Choose from where on a score is odd by normal recordings of your own that training has not
seen, for instance so that one of a hundred exceeds it."""
_PREPROCESSED = """
{layout}What training did to a raw example, and firmware is to do: {words}.
`ModelInput` in `model_settings.h` does the last step; its constants are there and, with
all parameters, in `preprocessing.json`.
"""
_SIGNAL = """TFLM has no kernels for the spectrum: compute it with the constants `kExtraction…`, for
instance with CMSIS-DSP's `arm_rfft_fast_f32`, and compare with `preprocessing.tflite` of
the Android files.
"""
_DECODE_REQUIREMENT = """It needs a TFLM with {forms} of operator DECODE, as {runtime}.
Weights are decoded into the arena while the model runs, so a kernel that reads them in
Prepare sees none: compare the outputs of optimised kernels with the reference once.
"""
_LEFT_OUT = """`model.tflite` lacks
such things, names among them; LiteRT may refuse it."""
_NAMES_KEPT = "`model.tflite` keeps names,\nsignatures and metadata."


_NAMED_COLUMNS = 12


@dataclasses.dataclass(frozen=True)
class Handover:
  """What is known besides the measurements.

  Attributes:
    settings: What numbers the files compute with.
    options: What was asked for.
    found: What firmware needs for the encoded file.
    dense: What it would need for the dense one.
    num_classes: Number of outputs, one per class; 0 where they are the input again.
    preprocessing: From raw examples to inputs; None where it is not known.
    layout: In which order a raw example's numbers stand; None where not known.
    scores: Of normal examples; None where they are not known.
  """

  settings: McuSettings
  options: McuOptions
  found: Footprint
  dense: Footprint
  num_classes: int
  preprocessing: Optional[Preprocessing] = None
  layout: Optional[RawLayout] = None
  scores: Optional[Scores] = None


def readme(verified: VerifiedPair, handover: Handover) -> str:
  """Returns the text."""
  encoded, arena, dense_arena = verified.encoded, verified.arena, verified.dense_arena
  functions = resolver_functions(encoded.model_bytes)
  peaks = mcu_peaks.peaks(encoded.model_bytes)
  return _README.format(
    flash=len(encoded.model_bytes),
    dense_flash=len(verified.dense_bytes),
    arrays=handover.found.flash_bytes - len(encoded.model_bytes),
    shrunk=verified.shrunk_size_bytes,
    arena=arena.recommended_bytes,
    dense_arena=dense_arena.recommended_bytes,
    used=arena.used_bytes,
    dense_used=dense_arena.used_bytes,
    head=arena.activations_bytes,
    dense_head=dense_arena.activations_bytes,
    tail=arena.persistent_bytes,
    dense_tail=dense_arena.persistent_bytes,
    gain=_gain(verified.shrunk_size_bytes - len(encoded.model_bytes)),
    growth=_growth(arena.recommended_bytes - dense_arena.recommended_bytes),
    budgets=_budgets(handover),
    left_out=_NAMES_KEPT if handover.options.keep_names else _LEFT_OUT,
    runtime=tflm.runtime_name(),
    numbers=f"int{handover.settings.activation_bits}",
    quality="\n".join(_quality_rows(verified.comparison, handover.num_classes > 0)),
    density=verified.density,
    operators=", ".join(function.removeprefix("Add") for function in functions),
    peak=_peak(peaks),
    tensors="\n".join(_tensor_row(each, peaks) for each in encoded.tensors),
    use=_use(verified, handover),
  )


def _gain(saved_bytes: int) -> str:
  """Returns what encoding saves."""
  if saved_bytes:
    return (
      f"Storing zeros and repeated values compactly saves {saved_bytes} bytes of flash."
    )
  return "No tensor is stored compactly, as that would save no bytes."


def _growth(more_bytes: int) -> str:
  """Returns what decoding costs."""
  if more_bytes <= 0:
    return ""
  return (
    f"Decoded weights lie in the arena while they are used: that takes {more_bytes} bytes "
    "more of RAM.\nWith a limit of RAM (`--mcu_ram_kb`, in Python `ram_bytes`) fewer tensors "
    "are encoded, those that save most first.\n"
  )


def _budgets(handover: Handover) -> str:
  """Returns the limits that are kept."""
  rows = (
    ("flash", handover.found.flash_bytes, handover.options.flash_bytes),
    ("RAM", handover.found.ram_bytes, handover.options.ram_bytes),
  )
  return "".join(
    f"Budget of {name}: {needed} of {allowed} bytes ({needed / allowed:.1%}).\n"
    for name, needed, allowed in rows
    if allowed is not None
  )


def _peak(peaks: mcu_peaks.Peaks) -> str:
  """Returns an introduction to the table's sums of tensors."""
  return (
    f"At most {peaks.highest_bytes} bytes of tensors lie in the arena at the same time, "
    "without kernels' scratch\nmemory and gaps. The table says how many while a decoded "
    "tensor is one of them.\n"
  )


def _use(verified: VerifiedPair, handover: Handover) -> str:
  """Returns how firmware is made of the files."""
  forms = sorted({each.form for each in verified.encoded.tensors if each.encoded})
  known = handover.preprocessing
  functions, dense = (
    resolver_functions(each)
    for each in (verified.encoded.model_bytes, verified.dense_bytes)
  )
  fewer = _FEWER_OPERATORS.format(count=len(dense))
  return _USE.format(
    fill="fill that in `FillInput`" if known is None else "give `Feature` your values",
    preprocessing="" if known is None else _preprocessed(known, handover.layout),
    requirement=_requirement(forms) if forms else "",
    reading=_reading(verified, handover),
    dense_arena=verified.dense_arena.recommended_bytes,
    dense_operators=_SAME_OPERATORS if functions == dense else fewer,
  )


def _reading(verified: VerifiedPair, handover: Handover) -> str:
  """Returns how firmware writes inputs and reads outputs without the example."""
  write = _WRITE_FLOAT if handover.settings.float_ends else _WRITE
  text = write.format(real="" if handover.preprocessing is None else _REAL)
  if handover.num_classes:
    return text + (_READ_CLASSES if handover.num_classes > 1 else _READ_VALUE)
  if handover.scores is None:
    return text + _READ_RECONSTRUCTION + _NO_SCORES
  rows = "\n".join(
    f"| {percent} % | {score:.6g} | `kScorePercentile{percent}` |"
    for percent, score in handover.scores.percentiles
  )
  return (
    text
    + _READ_RECONSTRUCTION
    + _SCORES.format(
      samples=handover.scores.samples,
      rows=rows,
      source=escaped(handover.scores.source),
    )
  )


def _preprocessed(known: Preprocessing, layout: Optional[RawLayout]) -> str:
  """Returns what a raw example is, and what becomes of it."""
  told = _PREPROCESSED.format(layout=_laid_out(layout), words=known.in_words())
  return f"{told}{_SIGNAL if known.extraction.of_signal else ''}"


def _laid_out(layout: Optional[RawLayout]) -> str:
  """Returns in which order a raw example's numbers stand."""
  if layout is None:
    return ""
  names = [escaped(name) for name in layout.columns[:_NAMED_COLUMNS]]
  more = len(layout.columns) - len(names)
  rest = f" and {more} more, all of which `model_settings.h` names" if more else ""
  return f"A raw example is {layout.in_words(names)}{rest}.\n"


def _requirement(forms: list[str]) -> str:
  """Returns what firmware must be able to decode."""
  types = f"type{'s' if len(forms) > 1 else ''} {' and '.join(forms)}"
  return _DECODE_REQUIREMENT.format(forms=types, runtime=tflm.runtime_name())


def _quality_rows(comparison: Comparison, has_classes: bool) -> list[str]:
  """Returns what is known about the outputs, a line each."""
  if not has_classes:
    auc = (
      "not known (no anomalies)" if comparison.auc is None else f"{comparison.auc:.4f}"
    )
    return [
      f"- area under the ROC curve on the evaluation data: {auc}",
      f"- largest difference from the float model: {comparison.max_abs_error:.3g}",
    ]
  accuracy, agreement = comparison.accuracy, comparison.argmax_agreement
  known = "not known (no labels)" if accuracy is None else f"{accuracy:.2%}"
  same = "not known (a single output)"
  if agreement is not None:
    same = f"{agreement:.2%} of the evaluation inputs"
  return [
    f"- accuracy on the evaluation data: {known}",
    f"- same class as the float model: {same}",
    f"- largest difference from the float model: {comparison.max_abs_error:.3g}",
  ]


def _tensor_row(report: TensorReport, peaks: mcu_peaks.Peaks) -> str:
  """Returns one line of the README's table of tensors."""
  name = escaped(report.name)
  beside = peaks.decoded.get((report.subgraph, report.index), "")
  cells = (name, report.dense_bytes, report.stored_bytes, beside)
  shown = " | ".join(map(str, cells))
  return f"| {shown} | {report.form or report.left_dense_because} |"
