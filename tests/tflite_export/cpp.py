"""Compiles and runs the firmware sources with g++, or with the compiler of ARM's MCUs."""

import pathlib
import shutil
import subprocess

import pytest

from tflite_export.microcontrollers.firmware_objects import section_bytes

STANDARDS = ("c++11", "c++17")
ARM_COMPILER = "arm-none-eabi-g++"
# Of tests alone: what the product does without a compiler is tried, too.
needs_compiler = pytest.mark.skipif(
  shutil.which("g++") is None,
  reason="g++ is not installed (Debian and Ubuntu: apt-get install g++)",
)
_WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I.")


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
  """Compiles, or skips the test where there is no compiler."""
  if shutil.which("g++") is None:
    pytest.skip(needs_compiler.kwargs["reason"])
  _run(folder, "g++", *_WARNINGS, *arguments)


def run_program(folder, program, *others, standard="c++11"):
  write(folder, {"main.cc": program})
  compile_cpp(folder, f"-std={standard}", "main.cc", *others, "-o", "program")
  return subprocess.run(
    ["./program"], cwd=folder, capture_output=True, check=True
  ).stdout


def has_arm_compiler() -> bool:
  """Tells whether it is there, with its C++ library."""
  if shutil.which(ARM_COMPILER) is None:
    return False
  command = (ARM_COMPILER, "-fsyntax-only", "-x", "c++", "-")
  done = subprocess.run(
    command, input=b"#include <cstdint>\n", capture_output=True, check=False
  )
  return done.returncode == 0


def arm_object_bytes(folder, source, cpu):
  """Compiles a file for a Cortex-M; returns the object's bytes by kind of section."""
  target = (f"-mcpu={cpu}", "-mthumb", "-Os", "-fno-exceptions", "-fno-rtti")
  arguments = (*_WARNINGS, "-std=c++17", "-c", source, "-o", "object.o")
  _run(folder, ARM_COMPILER, *target, *arguments)
  return section_bytes(_run(folder, "arm-none-eabi-size", "-A", "object.o"))
