"""What the product does with `.tflite` files of others, and damaged ones to try it on."""

import contextlib
import io
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from absl import flags

from fedtiny_tff import seeds
from fedtiny_tff.errors import InputError
from pipelines import inspect
from tests.security.mutations import mutated
from tests.tflite_export.field_edits import edit
from tests.tflite_export.files import chain, sparse_values, written
from tflite_export.android import android_snippets
from tflite_export.conversion import sparsify
from tflite_export.decode import tflm_decode, tflm_shrink
from tflite_export.file_format import associated_files, flatbuffer_model, stored_weights
from tflite_export.microcontrollers import c_source, mcu_peaks, resolver_functions

# Every function that reads a file's bytes.
_PARSERS: tuple[Callable[[bytes], object], ...] = (
  android_snippets.read_interface,
  associated_files.read,
  lambda content: c_source.c_sources(content, ("a", "b"), 1024),
  mcu_peaks.peaks,
  resolver_functions.resolver_functions,
  sparsify.sparsify,
  stored_weights.stored_weights,
  tflm_decode.encode_pruned,
  tflm_shrink.shrink,
)


def small_files() -> list[bytes]:
  """Returns files that are made without TensorFlow: dense, encoded, with an archive."""
  layers = chain([sparse_values(), sparse_values(1)], [(1, 0), (2, 1)], [0, 1])
  dense = written(layers)
  return [
    dense,
    tflm_decode.encode_pruned(dense).model_bytes,
    associated_files.append(dense, {"labels.txt": b"a\nb\n", "x": bytes(200)}),
  ]


def damaged(files: Sequence[bytes], number: int) -> bytes:
  """Returns the damaged file of a number, the same every time."""
  generator = seeds.generator(0, "fuzz tflite", number)
  content = files[generator.integers(len(files))]
  if generator.integers(3):
    return mutated(content, files, generator)
  model = flatbuffer_model.read_model(content)
  for _ in range(generator.integers(1, 6)):
    with contextlib.suppress(ValueError, IndexError, TypeError, AttributeError):
      edit(model, generator)
  try:
    changed = written(model)
  except (ValueError, TypeError, AttributeError, OverflowError, IndexError):
    # Edits after one another need not fit together.
    return mutated(content, files, generator)
  return mutated(changed, files, generator) if generator.integers(2) else changed


def try_one(content: bytes, folder: pathlib.Path) -> bool:
  """Lets everything read a file; returns whether `pipelines.inspect` took it.

  Raises:
    Exception: Anything but an `InputError` of one line.
  """
  is_taken = True
  path = folder / "damaged.tflite"
  path.write_bytes(content)
  try:
    for form in ("text", "json"):
      flags.FLAGS["format"].value = form
      with contextlib.redirect_stdout(io.StringIO()) as printed:
        inspect.main(str(path))
      assert "\x1b" not in printed.getvalue()
  except InputError as error:
    assert str(error).isprintable()
    is_taken = False
  for parse in _PARSERS:
    try:
      parse(content)
    except InputError as error:
      assert "\n" not in str(error)
  return is_taken


def numbers_taken(
  files: Sequence[bytes], numbers: Iterable[int], folder: pathlib.Path
) -> int:
  """Tries the damaged files of some numbers; returns how many were taken."""
  return sum(try_one(damaged(files, number), folder) for number in numbers)


def random_file(number: int) -> bytes:
  """Returns noise that begins like a file."""
  generator = np.random.default_rng(number)
  noise = bytearray(generator.bytes(int(generator.integers(8, 500))))
  noise[4:8] = b"TFL3"
  return bytes(noise)
