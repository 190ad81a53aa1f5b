"""Writes an example that runs the model, in the form of TFLM's own examples.

`setup()` and `loop()` are what Arduino sketches and TFLM's `main.cc` call. Features are
left at zero for the developer to fill in; everything else is complete.

Source of the form: TFLM's `tensorflow/lite/micro/examples`.
"""

_HEADER = """#ifndef FEDTINY_MODEL_MAIN_FUNCTIONS_H_
#define FEDTINY_MODEL_MAIN_FUNCTIONS_H_

#ifdef __cplusplus
extern "C" {
#endif

// Call it once, before everything else. What goes wrong is printed.
void setup();

// Call it for each inference; does nothing when setup() has failed.
void loop();

#ifdef __cplusplus
}
#endif

#endif  // FEDTINY_MODEL_MAIN_FUNCTIONS_H_
"""

_SOURCE = """#include "main_functions.h"

{standard_headers}
#include "arena.h"
#include "model_data.h"
#include "model_settings.h"
#include "op_resolver.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {{

using namespace fedtiny_model;

tflite::MicroInterpreter* interpreter = nullptr;
alignas(16) uint8_t tensor_arena[kArenaBytes];

{stored}
{fill_input}
{handling}
}}  // namespace

void setup() {{
  tflite::InitializeTarget();
  const tflite::Model* model = tflite::GetModel(g_model);
  if (model->version() != TFLITE_SCHEMA_VERSION) {{
    MicroPrintf("The model has schema version %d, this TFLM reads %d.",
                static_cast<int>(model->version()), TFLITE_SCHEMA_VERSION);
    return;
  }}
  static OpResolver resolver;
  if (RegisterOps(resolver) != kTfLiteOk) {{
    MicroPrintf("An operator is missing in this TFLM.");
    return;
  }}
  static tflite::MicroInterpreter static_interpreter(model, resolver, tensor_arena,
                                                     kArenaBytes);
  if (static_interpreter.AllocateTensors() != kTfLiteOk) {{
    MicroPrintf("AllocateTensors() failed: is kArenaBytes enough for this target?");
    return;
  }}
  interpreter = &static_interpreter;
}}

void loop() {{
  if (interpreter == nullptr) return;
  {fill}
  if (interpreter->Invoke() != kTfLiteOk) {{
    MicroPrintf("Invoke() failed.");
    return;
  }}
  HandleOutput({given});
}}
"""

_FILL_INPUT = """// Yours to write: what your sensor gives, preprocessed as in training.
void FillInput(InputType* values) {{
  for (int i = 0; i < kInputElements; ++i) values[i] = {zero};
}}
"""
_FILL_PREPROCESSED = """// Yours to write: what your sensor gives, or the features made of it.
float Feature(int place) {{
  (void)place;
  return 0.0f;
}}

// Normalises as in training.
void FillInput(InputType* values) {{
  for (int i = 0; i < kInputElements; ++i) values[i] = {input};
}}
"""

_QUANTISE = """// Returns the number that stands for a real input value.
InputType Stored(float real) {
  const float least =
      static_cast<float>(std::numeric_limits<InputType>::min());
  const float most =
      static_cast<float>(std::numeric_limits<InputType>::max());
  const float stored = std::round(real / kInputScale) + kInputZeroPoint;
  return static_cast<InputType>(std::fmin(std::fmax(stored, least), most));
}
"""

_CLASSES = """// Prints the most likely class.
void HandleOutput(const OutputType* values) {
  int best = 0;
  for (int i = 1; i < kOutputElements; ++i) {
    if (values[i] > values[best]) best = i;
  }
  MicroPrintf("%s", kClassNames[best]);
}
"""

_VALUE = """// Prints the only output, in thousandths.
void HandleOutput(const OutputType* values) {
  const float value =
      1e3f * kOutputScale * (static_cast<float>(values[0]) - kOutputZeroPoint);
  MicroPrintf("%d", static_cast<int>(value < -2e9f  ? -2e9f
                                     : value < 2e9f ? value
                                                    : 2e9f));
}
"""

_RECONSTRUCTION = """// Prints the mean squared error, in millionths: the larger, the odder the input.
void HandleOutput(const OutputType* values, const InputType* input) {
  float sum = 0.0f;
  for (int i = 0; i < kOutputElements; ++i) {
    const float difference =
        kOutputScale * (static_cast<float>(values[i]) - kOutputZeroPoint) -
        kInputScale * (static_cast<float>(input[i]) - kInputZeroPoint);
    sum += difference * difference;
  }
  const float score = 1e6f * sum / kOutputElements;
  MicroPrintf("%d", static_cast<int>(score < 2e9f ? score : 2e9f));
}
"""
_FILL = "FillInput(interpreter->typed_input_tensor<InputType>(0));"
# The arena's input may be overwritten before the output is there.
_FILL_AND_KEEP = """static InputType input[kInputElements];
  FillInput(input);
  InputType* given = interpreter->typed_input_tensor<InputType>(0);
  for (int i = 0; i < kInputElements; ++i) given[i] = input[i];"""
_OUTPUT = "interpreter->typed_output_tensor<OutputType>(0)"


def example(
  input_type: str,
  has_classes: bool,
  is_preprocessed: bool = False,
  is_single: bool = False,
) -> dict[str, str]:
  """Returns the example's files.

  Args:
    input_type: C type of the input.
    has_classes: Whether the outputs are classes; else they are the input again.
    is_preprocessed: Whether `model_settings.h` says how inputs are preprocessed.
    is_single: Whether there is one class only, and so none to choose.

  Returns:
    File name to text, valid in C++11 and later.
  """
  is_float = input_type == "float"
  headers = ["<cstdint>"] if is_float else ["<cmath>", "<cstdint>", "<limits>"]
  classes = _VALUE if is_single else _CLASSES
  source = _SOURCE.format(
    standard_headers="".join(f"#include {name}\n" for name in headers),
    stored="" if is_float else _QUANTISE,
    fill_input=_fill_input(is_float, is_preprocessed),
    handling=classes if has_classes else _RECONSTRUCTION,
    fill=_FILL if has_classes else _FILL_AND_KEEP,
    given=_OUTPUT if has_classes else f"{_OUTPUT}, input",
  )
  return {"main_functions.h": _HEADER, "main_functions.cc": source}


def _fill_input(is_float: bool, is_preprocessed: bool) -> str:
  """Returns the function that the developer is to complete."""
  if not is_preprocessed:
    return _FILL_INPUT.format(zero="0.0f" if is_float else "Stored(0.0f)")
  made = "ModelInput(Feature(i), i)"
  return _FILL_PREPROCESSED.format(input=made if is_float else f"Stored({made})")
