"""Compiles a microcontroller export where there is no checkout of TFLM.

With g++ the model's data, settings, arena and resolver are compiled and linked, and the
example is checked. With the compiler for ARM both sources are compiled for Cortex-M, and
what they take is read from the objects: TFLM itself, which is not there, is left out.
Stand-ins replace its headers.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from pipelines.firmware import cpp_compiler
from tflite_export.microcontrollers import golden_vectors
from tflite_export.microcontrollers.firmware_objects import (
  FirmwareObject,
  section_bytes,
)
from tflite_export.microcontrollers.mcu_verify import MODEL_PATH
from tflite_export.microcontrollers.resolver_functions import resolver_functions
from tflite_export.microcontrollers.tflm_stand_ins import stand_ins

CPUS = ("cortex-m4", "cortex-m55")
_ARM_GXX = "arm-none-eabi-g++"
_ARM_SIZE = "arm-none-eabi-size"
# As TFLM is built itself, but for float registers, which are the board's choice.
_ARM_OPTIONS = (
  "-mthumb", "-Os", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics",
  "-std=c++17", "-I.",
)  # fmt: skip
# The sources promise C++11; TFLM needs C++17.
_HOST_OPTIONS = ("-std=c++11", "-I.")
_DEBIAN_HOST = "g++"
_DEBIAN_ARM = "gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib"
_FAILURE = "the C++ sources do not compile, with stand-ins for TFLM's headers"

# Uses every header, and the array, so that a linker must find it.
_PROGRAM = """#include "arena.h"
#include "model_data.h"
#include "model_settings.h"
#include "op_resolver.h"

using namespace fedtiny_model;

static_assert(kModelDataBytes == {model_bytes}, "the array is another file's");
static_assert(kInputElements > 0 && kOutputElements > 0, "nothing goes in or comes out");

alignas(16) static uint8_t tensor_arena[kArenaBytes];

int main() {{
  static OpResolver resolver;
  if (RegisterOps(resolver) != kTfLiteOk) return 1;
  return g_model[kModelDataBytes - 1] + tensor_arena[0];
}}
"""
# What firmware may call besides.
_GOLDEN = f"""
#include "{golden_vectors.HEADER}"
#include "tensorflow/lite/micro/micro_interpreter.h"

double TryGoldenVectors(tflite::MicroInterpreter& interpreter) {{
  return GoldenDifference(interpreter);
}}
"""


@dataclasses.dataclass(frozen=True)
class FirmwareCheck:
  """What compiling has shown.

  Attributes:
    objects: A row for each source and processor; none without the compiler for ARM.
    lines: What was checked and what was not, a sentence each.
  """

  objects: tuple[FirmwareObject, ...]
  lines: tuple[str, ...]


def check(files: Mapping[str, bytes]) -> FirmwareCheck:
  """Compiles the sources with what is installed here.

  Args:
    files: Of the target `mcu`, by path.

  Raises:
    VerificationError: They do not compile or link; with the compiler's first error.
  """
  program = _PROGRAM.format(model_bytes=len(files[MODEL_PATH]))
  linked = ["main.cc", "model_data.cc"]
  if f"mcu/{golden_vectors.SOURCE}" in files:
    program += _GOLDEN
    linked.append(golden_vectors.SOURCE)
  headers = stand_ins(resolver_functions(files[MODEL_PATH]))
  with cpp_compiler.sources_in_folder(files, {**headers, "main.cc": program}) as folder:
    told = _linked(folder, linked)
    objects, measured = _objects(folder)
  return FirmwareCheck(objects, (told, *measured))


def _linked(folder: pathlib.Path, sources: Sequence[str]) -> str:
  """Compiles and links for this machine; returns what there is to say."""
  compiler = (cpp_compiler.GXX, *_HOST_OPTIONS)
  if problem := cpp_compiler.problem(compiler):
    return _not_checked("whether the C++ sources compile", problem, _DEBIAN_HOST)
  for arguments in (
    (*sources, "-o", "program"),
    ("-fsyntax-only", "main_functions.cc"),
  ):
    cpp_compiler.run((*compiler, *arguments), folder, _FAILURE)
  return (
    f"model_data.cc links and main_functions.cc compiles with {compiler[0]}, against "
    "stand-ins for TFLM's headers"
  )


def _objects(
  folder: pathlib.Path,
) -> tuple[tuple[FirmwareObject, ...], tuple[str, ...]]:
  """Compiles for Cortex-M; returns the objects and what there is to say."""
  objects: list[FirmwareObject] = []
  lines: list[str] = []
  for number, cpu in enumerate(CPUS):
    compiler = (_ARM_GXX, f"-mcpu={cpu}", *_ARM_OPTIONS)
    if problem := cpp_compiler.problem(compiler, _ARM_SIZE):
      what = f"what the C++ sources take on {' and '.join(CPUS[number:])}"
      lines.append(_not_checked(what, problem, _DEBIAN_ARM))
      break
    rows = [_compiled(folder, source, cpu, compiler) for source in cpp_compiler.SOURCES]
    taken = ", ".join(
      f"{row.source} {row.flash_bytes:,} and {row.ram_bytes:,}" for row in rows
    )
    lines.append(f"{cpu}, bytes of flash and of RAM, without TFLM itself: {taken}")
    objects += rows
  return tuple(objects), tuple(lines)


def _compiled(
  folder: pathlib.Path, source: str, cpu: str, compiler: Sequence[str]
) -> FirmwareObject:
  """Compiles one source for one processor and measures the object."""

  def run(*command: str) -> str:
    return cpp_compiler.run(command, folder, f"{_FAILURE}, for {cpu}")

  run(*compiler, "-c", source, "-o", "object.o")
  sizes = section_bytes(run(_ARM_SIZE, "-A", "object.o"))
  version = run(_ARM_GXX, "-dumpfullversion").strip()
  return FirmwareObject(
    compiler=f"{_ARM_GXX} {version}",
    cpu=cpu,
    source=source,
    text_bytes=sizes["text"],
    rodata_bytes=sizes["rodata"],
    data_bytes=sizes["data"],
    bss_bytes=sizes["bss"],
  )


def _not_checked(what: str, problem: str, packages: str) -> str:
  """Returns the sentence about a compiler that is missing."""
  return f"Not checked: {what}. {problem}; on Debian: apt-get install {packages}"
