"""Compiles and runs the firmware sources with g++."""

import pathlib
import subprocess

STANDARDS = ("c++11", "c++17")

# A stand-in, NOT TFLM's header: just enough for the compiler to check op_resolver.h.
RESOLVER_STAND_IN = """
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
namespace tflite {
template <unsigned int tOpCount>
class MicroMutableOpResolver {
 public:
  unsigned int added = 0;
  TfLiteStatus Count() { return ++added > tOpCount ? kTfLiteError : kTfLiteOk; }
  FUNCTIONS
};
}  // namespace tflite
"""


def write(folder: pathlib.Path, files):
  for name, text in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def compile_cpp(folder, *arguments):
  command = ["g++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I.", *arguments]
  done = subprocess.run(
    command, cwd=folder, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr


def run_program(folder, program, *others, standard="c++11"):
  write(folder, {"main.cc": program})
  compile_cpp(folder, f"-std={standard}", "main.cc", *others, "-o", "program")
  return subprocess.run(
    ["./program"], cwd=folder, capture_output=True, check=True
  ).stdout


def resolver_stand_in(functions):
  declared = "\n  ".join(
    f"TfLiteStatus {each}() {{ return Count(); }}" for each in functions
  )
  return RESOLVER_STAND_IN.replace("FUNCTIONS", declared)
