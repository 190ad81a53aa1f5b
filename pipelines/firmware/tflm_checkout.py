"""Compiles the C++ example against the headers of a checkout of TFLM (`--tflm_dir`)."""

import pathlib
import shutil
from collections.abc import Mapping

from fedtiny_tff.errors import InputError
from pipelines.firmware import cpp_compiler

_INTERPRETER = "tensorflow/lite/micro/micro_interpreter.h"
# Where TFLM's Makefile puts other projects; the headers of some are in a folder of
# that name, of others in `include`.
_DOWNLOADS = "tensorflow/lite/micro/tools/make/downloads"
_FLATBUFFERS = "flatbuffers/flatbuffers.h"


def check(folder: str) -> None:
  """Makes sure that a folder is a checkout that something can be compiled with.

  Raises:
    InputError: When it is not, or there is no compiler.
  """
  root = pathlib.Path(folder)
  if not (root / _INTERPRETER).is_file():
    raise InputError(
      f"--tflm_dir={folder}: holds no {_INTERPRETER}; name a checkout of tflite-micro"
    )
  if not any((path / _FLATBUFFERS).is_file() for path in _include_folders(root)):
    raise InputError(
      f"--tflm_dir={folder}: {_FLATBUFFERS} is not there; run `make -f "
      "tensorflow/lite/micro/tools/make/Makefile third_party_downloads` in it"
    )
  if shutil.which(cpp_compiler.GXX) is None:
    raise InputError(
      f"--tflm_dir: {cpp_compiler.GXX} is not installed; install it or leave the flag out"
    )


def _include_folders(root: pathlib.Path) -> list[pathlib.Path]:
  """Returns the folders that TFLM's own build takes headers from."""
  downloads = sorted((root / _DOWNLOADS).glob("*/"))
  return [root, *downloads, *(path / "include" for path in downloads)]


def compile_example(files: Mapping[str, bytes], folder: str) -> None:
  """Compiles the generated sources, as C++17, without making an object.

  Args:
    files: Of the target `mcu`, by path.
    folder: A checkout that `check` has passed.

  Raises:
    VerificationError: They do not compile; with the compiler's first error.
  """
  root = pathlib.Path(folder).resolve()
  includes = [f"-I{path}" for path in _include_folders(root) if path.is_dir()]
  options = ("-std=c++17", "-fsyntax-only", "-I.", *includes)
  with cpp_compiler.sources_in_folder(files, {}) as place:
    cpp_compiler.run(
      (cpp_compiler.GXX, *options, *cpp_compiler.SOURCES),
      place,
      f"the C++ sources do not compile with the headers of {folder}",
    )
