"""Writes headers that stand in for TFLM's own where there is no checkout of it.

They are NOT TFLM's. A compiler can check with them what was generated, and a program
links, but computes nothing. Every one says so at its top.

Names and parameters are those of TFLM's `tensorflow/lite/micro/micro_interpreter.h`,
`micro_log.h`, `micro_mutable_op_resolver.h` and `system_setup.h`. They are valid in C++11
and later.
"""

from collections.abc import Sequence

MARK = """// A STAND-IN, NOT TFLM's header: it declares just enough for a compiler to check the
// generated sources, and computes nothing. Firmware needs the real one.
"""
_MICRO = "tensorflow/lite/micro"
_COMMON = f"{_MICRO}/stand_in_common.h"
_RESOLVER = f"{_MICRO}/micro_mutable_op_resolver.h"

_HEADERS = {
  _COMMON: """#include <cstddef>
#include <cstdint>

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
struct TfLiteTensor;

namespace tflite {
class MicroOpResolver {};
class MicroResourceVariables;
class MicroProfilerInterface;
struct Model {
  uint32_t version() const { return 3; }
};
}  // namespace tflite
""",
  f"{_MICRO}/micro_interpreter.h": f"""#include "{_COMMON}"

#define TFLITE_SCHEMA_VERSION (3)

namespace tflite {{
class MicroInterpreter {{
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver&, uint8_t* arena, size_t size,
                   MicroResourceVariables* = nullptr, MicroProfilerInterface* = nullptr,
                   bool = false)
      : model_(model), arena_(arena), size_(size) {{}}
  TfLiteStatus AllocateTensors() {{
    return model_ != nullptr && arena_ != nullptr && size_ > 0 ? kTfLiteOk : kTfLiteError;
  }}
  TfLiteStatus Invoke() {{ return kTfLiteOk; }}
  TfLiteTensor* input(size_t) {{ return nullptr; }}
  TfLiteTensor* output(size_t) {{ return nullptr; }}
  template <class T> T* typed_input_tensor(int) {{ return reinterpret_cast<T*>(arena_); }}
  template <class T> T* typed_output_tensor(int) {{ return reinterpret_cast<T*>(arena_); }}
  size_t arena_used_bytes() const {{ return size_; }}

 private:
  const Model* model_;
  uint8_t* arena_;
  size_t size_;
}};
}}  // namespace tflite
""",
  f"{_MICRO}/micro_log.h": """#include <cstdarg>
#include <cstdio>

inline void __attribute__((format(printf, 1, 2))) MicroPrintf(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\\n");
}
""",
  f"{_MICRO}/system_setup.h": """namespace tflite {
inline void InitializeTarget() {}
}  // namespace tflite
""",
  "tensorflow/lite/schema/schema_generated.h": f"""#include "{_COMMON}"

namespace tflite {{
inline const Model* GetModel(const void*) {{
  static const Model model;
  return &model;
}}
}}  // namespace tflite
""",
}


def stand_ins(functions: Sequence[str]) -> dict[str, str]:
  """Returns every header that generated sources include from TFLM.

  Args:
    functions: The `Add...` functions that the resolver has, as `resolver_functions`
      names them; it has no others.

  Returns:
    Path, as it is included, to text.
  """
  headers = {**_HEADERS, _RESOLVER: _resolver(functions)}
  return {path: f"{MARK}#pragma once\n\n{text}" for path, text in headers.items()}


def _resolver(functions: Sequence[str]) -> str:
  """Returns a resolver that counts what is added, and refuses one too many."""
  declared = "\n".join(
    f"  TfLiteStatus {each}() {{ return Count(); }}" for each in functions
  )
  return (
    f'#include "{_COMMON}"\n\n'
    "namespace tflite {\n"
    "template <unsigned int tOpCount>\n"
    "class MicroMutableOpResolver : public MicroOpResolver {\n"
    " public:\n"
    "  unsigned int added = 0;\n"
    "  TfLiteStatus Count() { return ++added > tOpCount ? kTfLiteError : kTfLiteOk; }\n"
    f"{declared}\n"
    "};\n"
    "}  // namespace tflite\n"
  )
