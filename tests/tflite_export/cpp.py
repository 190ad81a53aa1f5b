"""Compiles and runs the firmware sources with g++, or with the compiler of ARM's MCUs."""

import pathlib
import shutil
import subprocess

STANDARDS = ("c++11", "c++17")
ARM_COMPILER = "arm-none-eabi-g++"
_WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I.")

# Stand-ins, NOT TFLM's headers: just enough for the compiler to check what we generate,
# with the signatures of TFLM's own. They compute nothing.
_MICRO = "tensorflow/lite/micro"
_COMMON = f"{_MICRO}/stand_in_common.h"
_STAND_INS = {
  _COMMON: """
#pragma once
#include <cstddef>
#include <cstdint>
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
struct TfLiteTensor;
#define TFLITE_SCHEMA_VERSION (3)
namespace tflite {
class MicroOpResolver {};
class MicroResourceVariables;
class MicroProfilerInterface;
struct Model {
  uint32_t version() const { return TFLITE_SCHEMA_VERSION; }
};
}  // namespace tflite
""",
  f"{_MICRO}/micro_mutable_op_resolver.h": f"""
#pragma once
#include "{_COMMON}"
namespace tflite {{
template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {{
 public:
  unsigned int added = 0;
  TfLiteStatus Count() {{ return ++added > tOpCount ? kTfLiteError : kTfLiteOk; }}
  FUNCTIONS
}};
}}  // namespace tflite
""",
  f"{_MICRO}/micro_interpreter.h": f"""
#pragma once
#include "{_COMMON}"
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
  f"{_MICRO}/micro_log.h": """
#pragma once
#include <cstdarg>
#include <cstdio>
inline void __attribute__((format(printf, 1, 2))) MicroPrintf(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\\n");
}
""",
  f"{_MICRO}/system_setup.h": """
#pragma once
namespace tflite {
inline void InitializeTarget() {}
}  // namespace tflite
""",
  "tensorflow/lite/schema/schema_generated.h": f"""
#pragma once
#include "{_COMMON}"
namespace tflite {{
inline const Model* GetModel(const void*) {{
  static const Model model;
  return &model;
}}
}}  // namespace tflite
""",
}


def write(folder: pathlib.Path, files):
  for name, text in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _run(folder, *command):
  done = subprocess.run(
    command, cwd=folder, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def compile_cpp(folder, *arguments):
  _run(folder, "g++", *_WARNINGS, *arguments)


def run_program(folder, program, *others, standard="c++11"):
  write(folder, {"main.cc": program})
  compile_cpp(folder, f"-std={standard}", "main.cc", *others, "-o", "program")
  return subprocess.run(
    ["./program"], cwd=folder, capture_output=True, check=True
  ).stdout


def has_arm_compiler() -> bool:
  return shutil.which(ARM_COMPILER) is not None


def arm_object_bytes(folder, source, cpu):
  """Compiles a file for a Cortex-M; returns the object's bytes by kind of section."""
  target = (f"-mcpu={cpu}", "-mthumb", "-Os", "-fno-exceptions", "-fno-rtti")
  arguments = (*_WARNINGS, "-std=c++17", "-c", source, "-o", "object.o")
  _run(folder, ARM_COMPILER, *target, *arguments)
  sizes = dict.fromkeys(("text", "rodata", "data", "bss"), 0)
  for line in _run(folder, "arm-none-eabi-size", "-A", "object.o").splitlines():
    kind = line.split(".")[1].split()[0] if line.startswith(".") else ""
    if kind in sizes:
      sizes[kind] += int(line.split()[1])
  return sizes


def stand_ins(functions):
  """Returns the stand-ins by path, with a resolver that knows the functions named."""
  declared = "\n  ".join(
    f"TfLiteStatus {each}() {{ return Count(); }}" for each in functions
  )
  return {
    name: text.replace("FUNCTIONS", declared) for name, text in _STAND_INS.items()
  }
