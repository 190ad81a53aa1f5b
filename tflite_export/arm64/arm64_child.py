"""The half of `arm64` that runs under the emulator.

Started as `python3.11 -m tflite_export.arm64.arm64_child outputs|seconds FOLDER [RUNS]` in a
Python that has NumPy and LiteRT only. FOLDER holds the files `0.tflite`, `1.tflite`,
...; for `outputs` also `inputs.npz`. The answer is `answer.npz` there, or `refusal.txt`
with what the runtime said.
"""

import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np
from ai_edge_litert import interpreter as runtime

from fedtiny_tff.arrays import Array
from tflite_export.artifacts import VerificationError
from tflite_export.runtimes import litert

# The emulator translates code when it first meets it.
_WARM_UP_RUNS = 2


def outputs(folder: pathlib.Path) -> Array:
  """Returns float32 [N, values] of `0.tflite` for `inputs.npz`."""
  with np.load(folder / "inputs.npz", allow_pickle=False) as stored:
    inputs = stored["inputs"]
  return litert.run((folder / "0.tflite").read_bytes(), inputs)


def seconds(folder: pathlib.Path, runs: int) -> Array:
  """Returns the emulator's CPU seconds [files, runs] of one inference on zeros.

  The files take turns, so that a change of the machine's speed meets all of them.
  """
  interpreters = []
  for number in range(len(list(folder.glob("*.tflite")))):
    content = (folder / f"{number}.tflite").read_bytes()
    interpreters.append(_loaded(content))
  measured = np.empty((len(interpreters), _WARM_UP_RUNS + runs))
  for turn in range(_WARM_UP_RUNS + runs):
    for number, interpreter in enumerate(interpreters):
      begun = time.process_time()
      interpreter.invoke()
      measured[number, turn] = time.process_time() - begun
  return measured[:, _WARM_UP_RUNS:]


def _loaded(content: bytes) -> runtime.Interpreter:
  interpreter = runtime.Interpreter(model_content=content, num_threads=1)
  interpreter.allocate_tensors()
  for detail in interpreter.get_input_details():
    interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
  return interpreter


def main(arguments: Sequence[str]) -> int:
  """Answers one question and returns the exit code."""
  question, name, *rest = arguments
  folder = pathlib.Path(name)
  try:
    answer = outputs(folder) if question == "outputs" else seconds(folder, int(rest[0]))
  # Loading and running end in ValueError or RuntimeError, by what gives up.
  except (VerificationError, ValueError, RuntimeError) as error:
    (folder / "refusal.txt").write_text(str(error), encoding="utf-8")
    return 0
  np.savez(folder / "answer.npz", answer=answer)
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
