"""Inputs with the outputs that TFLM computes for them, as C++: is a board's build right?

The inputs are drawn at random, from a seed: samples of training would put somebody's data
into firmware, and those of the test split are for final figures.
"""

import numpy as np

from fedtiny_tff import seeds
from fedtiny_tff.arrays import Array
from tflite_export.file_format import flatbuffer_model, model_tensors
from tflite_export.microcontrollers import c_source
from tflite_export.runtimes import quantisation, tflm

HEADER, SOURCE = "golden_vectors.h", "golden_vectors.cc"
_COUNT = 2
_PER_LINE = 12
_HEADER_BODY = """\
// Inputs drawn at random, in the file's own numbers, and what TFLM's reference kernels on
// another machine make of them. Takes flash only where it is used.
constexpr int kGoldenVectors = {count};
extern const InputType kGoldenInputs[kGoldenVectors][kInputElements];
extern const OutputType kGoldenOutputs[kGoldenVectors][kOutputElements];

// Runs an interpreter of `g_model` on them. Returns the largest difference of an output,
// in its stored numbers: 0 where this build computes the same, -1 where it cannot run or
// an output is no number.
template <typename Interpreter>
double GoldenDifference(Interpreter& interpreter) {{
  double largest = 0;
  for (int vector = 0; vector < kGoldenVectors; ++vector) {{
    InputType* input = interpreter.template typed_input_tensor<InputType>(0);
    for (int place = 0; place < kInputElements; ++place) {{
      input[place] = kGoldenInputs[vector][place];
    }}
    if (static_cast<int>(interpreter.Invoke()) != 0) return -1;
    const OutputType* output = interpreter.template typed_output_tensor<OutputType>(0);
    for (int place = 0; place < kOutputElements; ++place) {{
      const double apart =
          static_cast<double>(output[place]) - kGoldenOutputs[vector][place];
      if (apart != apart) return -1;
      if (apart > largest) largest = apart;
      if (-apart > largest) largest = -apart;
    }}
  }}
  return largest;
}}
"""


def sources(model_bytes: bytes) -> dict[str, str]:
  """Returns the header and its arrays.

  Args:
    model_bytes: The file for TFLM, with one input and one output.

  Returns:
    File name to text; the same text for the same file. Nothing for a file that makes no
    numbers of such inputs.

  Raises:
    VerificationError: The file does not run.
  """
  inputs, stored = _inputs(model_bytes)
  outputs = tflm.run(model_bytes, inputs).stored_outputs
  if not np.isfinite(outputs).all():
    return {}
  header = c_source.header(
    "golden_vectors",
    '#include "model_settings.h"\n',
    _HEADER_BODY.format(count=_COUNT),
  )
  arrays = "\n".join(
    f"const {kind}Type kGolden{kind}s[kGoldenVectors][k{kind}Elements] = {{\n"
    + ",\n".join(_row(row) for row in values.reshape(_COUNT, -1))
    + "};\n"
    for kind, values in (("Input", stored), ("Output", outputs))
  )
  return {
    HEADER: header,
    SOURCE: f'#include "{HEADER}"\n\nnamespace {c_source.NAMESPACE} {{\n\n{arrays}\n'
    f"}}  // namespace {c_source.NAMESPACE}\n",
  }


def _inputs(model_bytes: bytes) -> tuple[Array, Array]:
  """Draws inputs; returns them as real numbers and as the file stores them."""
  generator = seeds.generator(0, "golden vectors")
  (source,), _ = model_tensors.tensor_facts(flatbuffer_model.read_model(model_bytes))
  shape = (_COUNT, *source.shape[1:])
  if not source.scale:
    drawn = generator.uniform(-1.0, 1.0, shape).astype(np.float32)
    return drawn, drawn
  dtype = np.dtype(source.dtype)
  limits = np.iinfo(dtype)
  stored = generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
  real: Array = quantisation.dequantise(stored, source.scale[0], source.zero_point[0])
  return real, stored


def _row(values: Array) -> str:
  """Returns one vector's braces."""
  if np.issubdtype(values.dtype, np.integer):
    texts = [str(int(each)) for each in values]
  else:
    texts = [f"{float(each):.8e}f" for each in values]
  lines = [
    ", ".join(texts[at : at + _PER_LINE]) for at in range(0, len(texts), _PER_LINE)
  ]
  return "    {" + ",\n     ".join(lines) + "}"
