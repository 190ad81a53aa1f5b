"""Turns a `.tflite` into the C++ files firmware compiles: bytes in, texts out.

  model_data.h, .cc  the file as an array aligned to 16 bytes, as TFLM reads it
  model_settings.h   shapes, types, scales and zero points of input and output; how raw
                     values are preprocessed, where that is known; and the class
                     names, where there are classes
  op_resolver.h      a `MicroMutableOpResolver` with exactly the operators used
  arena.h            size of the tensor arena
  main_functions.*   an example: `setup()` and `loop()`, as in TFLM's own

`golden_vectors` adds inputs with their outputs.

Everything is in namespace `fedtiny_model` and valid in C++11 and later.
"""

import math
import string
from collections.abc import Sequence
from typing import Any, Optional

from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError
from tflite_export.file_format import flatbuffer_model
from tflite_export.microcontrollers import c_preprocessing, c_source_example
from tflite_export.microcontrollers.mcu_scores import Scores
from tflite_export.microcontrollers.resolver_functions import used_functions
from tflite_export.texts.raw_layout import RawLayout

NAMESPACE = "fedtiny_model"

_BYTES_PER_LINE = 12
_WORD_BYTES = 4
_C_TYPES = {
  schema.TensorType.FLOAT32: "float",
  schema.TensorType.INT8: "int8_t",
  schema.TensorType.INT16: "int16_t",
  schema.TensorType.INT32: "int32_t",
  schema.TensorType.UINT8: "uint8_t",
}
_UNESCAPED = frozenset(
  string.ascii_letters + string.digits + " !#$%&'()*+,-./:;<=>@[]^_`{|}~"
)


def c_sources(
  model_bytes: bytes,
  class_names: Optional[Sequence[str]],
  arena_bytes: int,
  preprocessing: Optional[Preprocessing] = None,
  layout: Optional[RawLayout] = None,
  scores: Optional[Scores] = None,
) -> dict[str, str]:
  """Returns the source files of one model.

  Args:
    model_bytes: A `.tflite` with one input and one output [1, values].
    class_names: One name per output, in order; any text without NUL. None when the
      outputs are not classes.
    arena_bytes: Tensor arena to declare, with its margin.
    preprocessing: From raw examples to inputs; None where it is not known.
    layout: In which order a raw example's numbers stand; None where not known.
    scores: Of normal examples; None where they are not known.

  Returns:
    File name to text; the same text for the same arguments.

  Raises:
    InputError: A damaged file, an operator, type or name that firmware cannot have.
  """
  model = flatbuffer_model.read_model(model_bytes)
  of_data = (
    "" if preprocessing is None else c_preprocessing.settings(preprocessing, layout)
  )
  if scores is not None:
    of_data += f"\n{c_preprocessing.score_settings(scores)}"
  with flatbuffer_model.reading():
    return {
      "model_data.h": _model_data_header(len(model_bytes)),
      "model_data.cc": _model_data(model_bytes),
      "model_settings.h": _settings(model, class_names, of_data),
      "op_resolver.h": _op_resolver(model),
      "arena.h": _arena(arena_bytes),
      **c_source_example.example(
        _input_type(model),
        class_names is not None,
        preprocessing is not None,
        class_names is not None and len(class_names) == 1,
      ),
    }


def array_bytes(
  model_bytes: bytes,
  class_names: Optional[Sequence[str]],
  preprocessing: Optional[Preprocessing] = None,
) -> int:
  """Returns the flash that constant arrays take beside the model, on 32-bit targets.

  These are the shapes, means and deviations, and the names with a pointer to each, in a
  program that uses all of them in one source file.

  Args:
    model_bytes: As for `c_sources`.
    class_names: Likewise.
    preprocessing: Likewise.

  Raises:
    InputError: A damaged file, one that has no sources, or a name that is no C string.
  """
  model = flatbuffer_model.read_model(model_bytes)
  with flatbuffer_model.reading():
    ranks = [len(_shape(tensor)) for tensor in _ends(model)]
  names = list(map(_encoded, class_names or ()))
  words = sum(ranks) + len(names)
  numbers = 0 if preprocessing is None else c_preprocessing.array_bytes(preprocessing)
  return _WORD_BYTES * words + sum(len(name) + 1 for name in names) + numbers


def _ends(model: Any) -> tuple[Any, Any]:
  """Returns the input and the output."""
  graph = model.subgraphs[0]
  if len(graph.inputs) != 1 or len(graph.outputs) != 1:
    raise InputError(
      f"the model has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; "
      "build it with one each, for which firmware sources are written"
    )
  return graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]


def header(name: str, includes: str, body: str) -> str:
  """Returns a header with its guard and namespace.

  Args:
    name: Of the file, without `.h`.
    includes: Lines before the namespace.
    body: What is in it.
  """
  guard = f"FEDTINY_MODEL_{name.upper()}_H_"
  return (
    f"#ifndef {guard}\n#define {guard}\n\n{includes}\n"
    f"namespace {NAMESPACE} {{\n\n{body}\n}}  // namespace {NAMESPACE}\n\n"
    f"#endif  // {guard}\n"
  )


def _model_data_header(model_bytes: int) -> str:
  """Returns the declaration of the array."""
  return header(
    "model_data",
    "",
    "// Named as in TFLM's examples.\n"
    f"constexpr unsigned int kModelDataBytes = {model_bytes};\n"
    "extern const unsigned char g_model[kModelDataBytes];\n",
  )


def _model_data(model_bytes: bytes) -> str:
  """Returns the definition of the array."""
  lines = [
    "  " + ", ".join(f"0x{byte:02x}" for byte in model_bytes[at : at + _BYTES_PER_LINE])
    for at in range(0, len(model_bytes), _BYTES_PER_LINE)
  ]
  return (
    f'#include "model_data.h"\n\nnamespace {NAMESPACE} {{\n\n'
    "alignas(16) const unsigned char g_model[kModelDataBytes] = {\n"
    + ",\n".join(lines)
    + f"\n}};\n\n}}  // namespace {NAMESPACE}\n"
  )


def _settings(model: Any, class_names: Optional[Sequence[str]], of_data: str) -> str:
  """Returns what firmware must know to fill the input and read the output."""
  source, target = _ends(model)
  body = (
    "// real value = scale * (stored value - zero point)\n"
    f"{_tensor_settings('Input', source)}\n{_tensor_settings('Output', target)}"
  )
  if of_data:
    body += f"\n{of_data}"
  if class_names is not None:
    body += f"\n{_class_settings(_shape(target)[-1], class_names)}"
  return header("model_settings", "#include <cstdint>\n", body)


def _class_settings(classes: int, class_names: Sequence[str]) -> str:
  """Returns the names of the outputs."""
  if classes != len(class_names):
    raise InputError(
      f"{len(class_names)} class names for {classes} outputs; give one for each"
    )
  names = ",\n".join(f"  {_string_literal(name)}" for name in class_names)
  return (
    f"constexpr int kNumClasses = {classes};\n"
    f"constexpr const char* kClassNames[kNumClasses] = {{\n{names}}};\n"
  )


def _shape(tensor: Any) -> list[int]:
  """Returns the fixed shape of an input or output."""
  shape = flatbuffer_model.integers(tensor.shape)
  if not shape or min(shape) < 1:
    raise InputError(f"input and output need a fixed shape, got {shape}; convert again")
  return shape


def _tensor_settings(kind: str, tensor: Any) -> str:
  """Returns the constants of the input or the output."""
  if tensor.type not in _C_TYPES:
    raise InputError(
      f"{kind.lower()} type {tensor.type} has no C type here; convert with int8 "
      "inputs and outputs"
    )
  shape = _shape(tensor)
  # Float tensors have no quantisation; the identity lets firmware treat all alike.
  scale, zero_point = 1.0, 0
  quantization = tensor.quantization
  if quantization is not None and quantization.scale is not None:
    scale, zero_point = float(quantization.scale[0]), int(quantization.zeroPoint[0])
  return (
    f"using {kind}Type = {_C_TYPES[tensor.type]};\n"
    f"constexpr int k{kind}Rank = {len(shape)};\n"
    f"constexpr int k{kind}Shape[k{kind}Rank] = {{{', '.join(map(str, shape))}}};\n"
    f"constexpr int k{kind}Elements = {math.prod(shape)};\n"
    f"constexpr float k{kind}Scale = {_float_literal(scale)};\n"
    f"constexpr int k{kind}ZeroPoint = {zero_point};\n"
  )


def _input_type(model: Any) -> str:
  """Returns the C type of the input."""
  return _C_TYPES[_ends(model)[0].type]


def _float_literal(value: float) -> str:
  """Returns a literal that the compiler reads back as the same float32."""
  if not math.isfinite(value) or value <= 0:
    raise InputError(f"a scale of {value} is not usable; convert the model again")
  return f"{value:.8e}f"


def _encoded(text: str) -> bytes:
  """Returns a class name's UTF-8 bytes.

  Raises:
    InputError: It cannot be a C string.
  """
  try:
    encoded = text.encode("utf-8")
  except UnicodeEncodeError as error:
    raise InputError(f"class name {text!r} is not valid text; rename it") from error
  if b"\0" in encoded:
    raise InputError(
      f"class name {text!r} holds a NUL, which ends a C string; rename it"
    )
  return encoded


def _string_literal(text: str) -> str:
  """Returns a C string literal of the text's UTF-8 bytes.

  Octal escapes are used because they end after three digits; a hexadecimal one
  would swallow a following letter. `?` is escaped against trigraphs.
  """
  escaped = "".join(
    chr(byte) if chr(byte) in _UNESCAPED else f"\\{byte:03o}" for byte in _encoded(text)
  )
  return f'"{escaped}"'


def _op_resolver(model: Any) -> str:
  """Returns the type of the resolver and the function that fills it."""
  functions = used_functions(model)
  lines = "\n".join(
    f"  if (resolver.{function}() != kTfLiteOk) return kTfLiteError;"
    for function in functions
  )
  body = (
    f"using OpResolver = tflite::MicroMutableOpResolver<{len(functions)}>;\n\n"
    "// Registers the operators of the model, and no others.\n"
    f"inline TfLiteStatus RegisterOps(OpResolver& resolver) {{\n{lines}\n"
    "  return kTfLiteOk;\n}\n"
  )
  include = '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"\n'
  return header("op_resolver", include, body)


def _arena(arena_bytes: int) -> str:
  """Returns the arena's size."""
  body = (
    "// For a buffer aligned to 16 bytes. Measured with 64-bit pointers, plus a margin;\n"
    "// MicroInterpreter::arena_used_bytes() tells what your build needs.\n"
    f"constexpr std::size_t kArenaBytes = {arena_bytes};\n"
  )
  return header("arena", "#include <cstddef>\n", body)
