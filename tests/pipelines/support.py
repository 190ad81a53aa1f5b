"""Tiny configurations, apps in and out of process, and a run that nobody trained."""

import contextlib
import dataclasses
import io
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Optional

import numpy as np
import psutil
import rich.console
from absl import flags
from absl.testing import flagsaver

from fedtiny_tff import tasks
from pipelines.apps import app, interruption
from pipelines.settings import config, run_flags
from tests.pipelines.handmade_reports import handmade_report

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Two events in two blocks, then a round without; rounds 2 and 3 are evaluated.
TINY: dict[str, Any] = {
  "dataset": "digits",
  "model": "digits_cnn",
  "public_samples_per_class": 3,
  "pretrain_epochs": 1,
  "target_density": 0.1,
  "pool_size": 3,
  "num_clients": 4,
  "clients_per_round": 3,
  "dirichlet_alpha": 1.0,
  "rounds": 4,
  "local_epochs": 1,
  "batch_size": 64,
  "adjust_every_rounds": 1,
  "adjust_until_round": 3,
  "eval_every_rounds": 3,
  "quantisation_aware": "never",
  "seed": 5,
}
# digits_cnn: 3·3·16·32 + 3·3·32·32 + 3·3·32·64 + 64·64 + 64·10 prunable weights.
PRUNABLE = 36_992
# floor(0.1 · 36,992).
ACTIVE = 3_699

# What a run for both targets exports, in the order of its report.
ANDROID_FILES = [
  f"export/android/{name}_{storage}.tflite"
  for name in ("dynamic_range", "fp16", "fp32", "int8")
  for storage in ("dense", "sparse")
]
# What belongs to the Android files beside them.
HANDOVER_FILES = [
  f"export/android/{name}"
  for name in (
    "DigitsCnnModel.java", "DigitsCnnModel.kt", "labels.txt", "model_card.md",
    "preprocessing.json",
  )
]  # fmt: skip
MCU_FILES = ["export/mcu/model.tflite", "export/mcu/model_dense.tflite"]
TFLITES = [*ANDROID_FILES, *MCU_FILES]

_MARK = "FEDTINY_TEST_MARK"
# A shell that runs the tests in the background ignores Ctrl-C for all of us.
_LAUNCHER = (
  "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
  "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
_TIMEOUT_SECONDS = 400


def write_flagfile(path: pathlib.Path, values: dict[str, Any]) -> pathlib.Path:
  """Writes flags as a person would."""
  lines = [f"--{name}={value}" for name, value in values.items()]
  path.write_text("# A tiny run.\n" + "\n".join(lines) + "\n")
  return path


def flag_values(**changes: Any) -> dict[str, Any]:
  """Returns the tiny configuration's flags, all of them."""
  values = {name: flags.FLAGS[name].default for name in run_flags.names()}
  values["targets"] = ["android", "mcu"]
  return values | TINY | {"output_dir": "unused"} | changes


def plan_data(made: config.RunConfig, task: Optional[tasks.Task] = None) -> Any:
  """Returns a configuration's `DataPlan`, for classification by default."""
  from pipelines.datasets import data_plan

  opened = data_plan.open_dataset(made)
  return data_plan.plan_data(made, opened, task or tasks.CLASSIFY)


def make_config(**changes: Any) -> config.RunConfig:
  """Returns the tiny configuration."""
  return config.make_config(flag_values(**changes))


def snapshot(folder: pathlib.Path) -> dict[str, Optional[bytes]]:
  """Returns every path below a folder with its content; None for folders."""
  return {
    str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
    for path in sorted(folder.rglob("*"))
  }


class Clock:
  """A `time.monotonic` that tests move."""

  def __init__(self) -> None:
    self.now = 100.0

  def __call__(self) -> float:
    return self.now


@contextlib.contextmanager
def fresh_flags() -> Iterator[None]:
  """Undoes what parsing a command line leaves in this process."""
  parsed = flags.FLAGS.is_parsed()
  numbers = (signal.SIGTERM, signal.SIGINT)
  hooks = sys.excepthook, sys.unraisablehook
  handlers = {number: signal.getsignal(number) for number in numbers}
  try:
    with flagsaver.flagsaver():
      yield
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)
    sys.excepthook, sys.unraisablehook = hooks
    interruption.forget()
    if not parsed:
      flags.FLAGS.unparse_flags()


def call(name: str, main: Callable[[], Optional[int]], *arguments: str) -> int:
  """Runs an app in this process, with flags as in a fresh one."""
  with fresh_flags():
    return app.run_app(main, "", {}, [f"pipelines/{name}.py", *arguments])


def _environment() -> dict[str, str]:
  # Libraries loaded in this process have set these; a user's shell has not.
  ours = ("TF_CPP_MIN_LOG_LEVEL", "GRPC_VERBOSITY")
  return {name: value for name, value in os.environ.items() if name not in ours}


class App:
  """An app in its own process, with its output in files."""

  def __init__(self, folder: pathlib.Path, module: str, *arguments: str):
    """Starts `python -m <module>`.

    Args:
      folder: Existing folder for the output; made empty for every app.
      module: Name of an app in `pipelines`, or of another module with its packages.
      arguments: Its command line.
    """
    self.company: list[str] = []
    self._mark = uuid.uuid4().hex
    module = module if "." in module else f"pipelines.{module}"
    self._out, self._err = (folder / f"{self._mark}.{end}" for end in ("out", "err"))
    with self._out.open("wb") as out, self._err.open("wb") as err:
      self.process = subprocess.Popen(
        [sys.executable, "-S", "-c", _LAUNCHER, "-m", module, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        env={**_environment(), _MARK: self._mark},
      )

  def wait(self) -> int:
    """Waits for the end and returns the exit code."""
    try:
      return self.process.wait(_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
      self.process.kill()
      raise

  def signal_when(self, path: pathlib.Path, number: signal.Signals) -> int:
    """Sends a signal as soon as a file is there; returns the exit code.

    `company` then names the app's processes just before, itself included.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not path.exists():
      assert self.process.poll() is None, f"ended too early:\n{self.stderr}"
      assert time.monotonic() < deadline, f"{path} never came:\n{self.stderr}"
      time.sleep(0.01)
    self.company = self._marked()
    self.process.send_signal(number)
    return self.wait()

  @property
  def stdout(self) -> str:
    """What it printed."""
    return self._out.read_text()

  @property
  def stderr(self) -> str:
    """What it complained and how it went."""
    return self._err.read_text()

  def survivors(self) -> list[str]:
    """Returns processes it started that are alive, after up to 5 s of patience."""
    deadline = time.monotonic() + 5.0
    while (alive := self._marked()) and time.monotonic() < deadline:
      time.sleep(0.05)
    return alive

  def _marked(self) -> list[str]:
    found = []
    for process in psutil.process_iter():
      with contextlib.suppress(psutil.Error):
        if process.environ().get(_MARK) == self._mark:
          found.append(f"{process.pid}: {' '.join(process.cmdline())}")
    return found


@dataclasses.dataclass(frozen=True)
class UntrainedRun:
  """A run directory as training leaves it, but with random weights.

  Attributes:
    path: The directory.
    config: Its configuration.
    report: Its report, without artifacts.
  """

  path: pathlib.Path
  config: config.RunConfig
  report: dict[str, Any]


def layer_masks(active: int = ACTIVE) -> np.ndarray:
  """Returns a mask of digits_cnn with exactly `active` True, bool [weights]."""
  mask = np.zeros(PRUNABLE, bool)
  mask[np.random.default_rng(3).permutation(PRUNABLE)[:active]] = True
  return mask


def make_untrained_run(path: pathlib.Path, **changes: Any) -> UntrainedRun:
  """Makes a run directory that can be exported and evaluated, in a second."""
  from fedtiny_tff.federated import states
  from fedtiny_tff.masked_models import tfmot_masking
  from pipelines import run_report
  from pipelines.datasets import data_stage
  from pipelines.runs import model_files
  from pipelines.runs.run_directory import RunDirectory
  from pipelines.training import experiments, training_pipeline

  made = make_config(output_dir=str(path), **changes)
  experiment = experiments.plan_experiment(made)
  run = RunDirectory(path)
  run.check(made)
  run.claim(made)
  data_stage.write_data(experiment.data, run.data)
  mask = layer_masks()
  weights = tfmot_masking.initial_weights(experiment.definition, made.seed)
  masked = weights._replace(prunable=np.where(mask, weights.prunable, np.float32(0)))
  state = states.ServerState(masked, mask, np.int32(made.rounds))
  model = training_pipeline.finalize(experiment.definition, state)
  masks = experiment.definition.spec.masks_by_layer(mask)
  model_files.save(run.model, model, masks, experiment.definition.task)
  text = handmade_report()
  text["run"] = made.configuration()
  run_report.write(run, text)
  return UntrainedRun(path, made, text)


def export_request(made: config.RunConfig, run: Any, data: Any) -> Any:
  """Returns an `ExportRequest` of a run, calibrated on the server's samples."""
  from pipelines.apps.progress import Progress
  from pipelines.exports import calibration_stage, export_stage
  from pipelines.runs import quantisation_decision

  progress = Progress(rich.console.Console(file=io.StringIO()))
  calibration = calibration_stage.calibrate(made, run, data, progress)
  facts = quantisation_decision.facts_without_figures("never", "Not asked for.")
  quantised = quantisation_decision.Quantisation(None, facts)
  return export_stage.export_request(made, run, data, calibration, quantised)
