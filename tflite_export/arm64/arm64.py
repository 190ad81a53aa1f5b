"""Runs `.tflite` files in LiteRT for ARM64, emulated on this machine.

What loads and computes on x86 may fail on a phone: XNNPACK takes its sparse path on
ARM only. Emulated seconds are CPU time of the emulator, not of any phone: a proxy for
the work done, of which only the ratio of two files on one machine means anything.
"""

import pathlib
import signal
import subprocess
import tempfile
from collections.abc import Sequence

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.arm64 import arm64_setup
from tflite_export.artifacts import VerificationError
from tflite_export.runtimes import litert

# A process that hangs under the emulator would never end.
_TIMEOUT_SECONDS = 3600
_SHOWN_CHARACTERS = 400


def runtime_name() -> str:
  """Returns the runtime's name and version, as in `Artifact.runtime`."""
  return f"{litert.runtime_name()} (aarch64, emulated)"


def run(model_bytes: bytes, inputs: Array) -> Array:
  """Computes the outputs of a one-input, one-output file on ARM64.

  The same as `litert.run`, in one emulated process for all rows.

  Args:
    model_bytes: The `.tflite` file, with float32 or integer inputs and outputs.
    inputs: float [N, ...]; quantised if the file's input is quantised.

  Returns:
    float32 [N, values], dequantised.

  Raises:
    VerificationError: The file does not load, does not fit the inputs, fails or
      crashes the runtime.
    InputError: There is no input row, or the emulator is not set up.
  """
  if not len(inputs):
    raise InputError("inputs have no rows; give at least one to run the file on")
  return _answer("outputs", [model_bytes], {"inputs": inputs})


def invoke_seconds(models: Sequence[bytes], runs: int) -> Array:
  """Measures inferences of some files in turn, in one emulated process.

  Args:
    models: The `.tflite` files.
    runs: Measured inferences of each.

  Returns:
    float64 [files, runs]: emulated seconds, see above. The smallest of a file's
    figures is the one that other processes disturbed least.

  Raises:
    VerificationError: A file does not load, fails or crashes the runtime.
    InputError: `runs` is not positive, or the emulator is not set up.
  """
  if runs < 1:
    raise InputError(f"runs must be at least 1, got {runs}")
  return _answer("seconds", models, {}, str(runs))


def _answer(
  question: str,
  models: Sequence[bytes],
  arrays: dict[str, Array],
  *arguments: str,
) -> Array:
  """Puts a question to `arm64_child` and returns its answer."""
  emulator = arm64_setup.find()
  if emulator is None:
    raise InputError(arm64_setup.problem())
  with tempfile.TemporaryDirectory(prefix="arm64-") as name:
    folder = pathlib.Path(name)
    for number, content in enumerate(models):
      (folder / f"{number}.tflite").write_bytes(content)
    for key, value in arrays.items():
      np.savez(folder / f"{key}.npz", **{key: value})
    child = "tflite_export.arm64.arm64_child"
    command = emulator.command(child, question, name, *arguments)
    printed = _run_child(command, emulator.environment(name), folder)
    refusal, answer = folder / "refusal.txt", folder / "answer.npz"
    if refusal.is_file():
      raise VerificationError(f"on ARM64: {refusal.read_text(encoding='utf-8')}")
    if not answer.is_file():
      raise VerificationError(f"on ARM64 the runtime gave no answer: {printed}")
    with np.load(answer, allow_pickle=False) as stored:
      outputs: Array = stored["answer"]
      return outputs


def _run_child(
  command: Sequence[str], environment: dict[str, str], folder: pathlib.Path
) -> str:
  """Runs the emulated process to its end and returns the end of what it printed.

  Raises:
    VerificationError: It crashed, hung or ended with an error.
  """
  # The emulator would write a core file of hundreds of megabytes.
  guarded = ["/bin/sh", "-c", 'ulimit -c 0; exec "$@"', "sh", *command]
  try:
    done = subprocess.run(
      guarded,
      cwd=folder,
      env=environment,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      timeout=_TIMEOUT_SECONDS,
      check=False,
    )
  except subprocess.TimeoutExpired as error:
    raise VerificationError(
      f"on ARM64 the runtime did not end within {_TIMEOUT_SECONDS} s"
    ) from error
  printed = " ".join(done.stdout.decode("utf-8", errors="replace").split())
  printed = printed[-_SHOWN_CHARACTERS:]
  if done.returncode < 0:
    ended_by = signal.Signals(-done.returncode).name
    raise VerificationError(f"on ARM64 the runtime crashed ({ended_by}): {printed}")
  if done.returncode:
    raise VerificationError(
      f"on ARM64 the process ended with exit code {done.returncode}: {printed}"
    )
  return printed
