"""The half of `device_training` that is a device: NumPy and LiteRT, nothing else.

Started as `python -m benchmarks.device_child FOLDER`; prints its figures as JSON.
"""

import json
import pathlib
import statistics
import sys
import time
from typing import Any

import numpy as np

from fedtiny_tff.devices import device_plan
from tflite_export.device_training.device_runtime import DeviceExamples, DeviceRuntime

BATCH = 32
STEPS = 12
ADJUSTED_BLOCK = 0


def memory_mb(field: str = "VmRSS") -> float:
  """Returns a field of this process's memory, in 10^6 bytes."""
  status = pathlib.Path("/proc/self/status").read_text()
  return int(status.split(f"{field}:")[1].split()[0]) * 1024 / 1e6


def examples(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """Returns inputs and labels of `STEPS` batches."""
  count = BATCH * STEPS
  inputs = np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)
  return inputs, (np.arange(count) % 10).astype(np.int32)


def median_step(times: list[float]) -> float:
  """Returns the median distance of times; the first steps prepare the later ones."""
  return statistics.median(np.diff(times)[2:].tolist())


def measure(folder: pathlib.Path) -> dict[str, Any]:
  """Answers the messages of a folder, and looks at memory between them."""
  plan = device_plan.read_plan((folder / "client_plan.json").read_text(), "plan")
  given = DeviceExamples(*examples(plan.model.input_shape))
  held_out = DeviceExamples(given.inputs[:BATCH], given.labels[:BATCH])
  figures: dict[str, Any] = {"started_mb": memory_mb()}
  content = (folder / "model.tflite").read_bytes()
  runtime = DeviceRuntime(content, plan, 0, given, held_out)
  runtime.evaluate((folder / "evaluation").read_bytes(), 0)
  figures["model_mb"] = memory_mb()
  times: list[float] = []
  update = runtime.train(
    (folder / "round").read_bytes(), 0, None,
    lambda done, total: times.append(time.process_time()),
  )  # fmt: skip
  figures["training_mb"] = memory_mb()
  adjusted = runtime.train(
    (folder / "adjusting").read_bytes(), 0, ADJUSTED_BLOCK, lambda done, total: None
  )
  figures["adjusting_mb"] = memory_mb()
  moments = runtime.measure((folder / "candidate").read_bytes(), 0)
  return figures | {
    "peak_mb": memory_mb("VmHWM"),
    "step_seconds": median_step(times),
    "update_bytes": len(update),
    "adjusting_update_bytes": len(adjusted),
    "moments_bytes": len(moments),
  }


if __name__ == "__main__":
  print(json.dumps(measure(pathlib.Path(sys.argv[1]))))
