"""model -> verified files in a folder per target -> rows of a report."""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

from pipelines.apps import files
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder
from pipelines.exports import calibration_stage
from pipelines.firmware import tflm_checkout
from pipelines.runs import model_files
from pipelines.runs.provenance import provenance_of_run
from pipelines.runs.quantisation_decision import LARGEST_DROP, Quantisation
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import boards
from pipelines.settings import config as config_lib
from tflite_export import targets
from tflite_export.android import recommendation
from tflite_export.artifacts import (
  BudgetError,
  ExportBundle,
  ExportRequest,
  VerificationError,
)
from tflite_export.texts.labels import clean_labels

if TYPE_CHECKING:
  from tflite_export.device_training.device_bundle import DeviceRequest

# Targets whose files LiteRT runs for inference.
LITERT_TARGETS = ("android",)


@dataclasses.dataclass(frozen=True)
class ExportSteps:
  """What is done with files beside making and verifying them.

  Attributes:
    verify_arm64: Whether files for LiteRT must pass under emulated ARM64 too.
    benchmark: Whether files for LiteRT are timed on this machine.
    benchmark_threads: Threads of the timed interpreters.
    benchmark_runs: Inferences of each file that are timed.
    tflm_dir: Checkout of TFLM that the example for it must compile with, or None for
      stand-ins.
  """

  verify_arm64: bool = False
  benchmark: bool = False
  benchmark_threads: int = 1
  benchmark_runs: int = 50
  tflm_dir: Optional[str] = None


def steps_of(config: config_lib.RunConfig) -> ExportSteps:
  """Reads the steps from a run's flags."""
  names = [field.name for field in dataclasses.fields(ExportSteps)]
  return ExportSteps(**{name: getattr(config, name) for name in names})


def export_request(
  config: config_lib.RunConfig,
  run: RunDirectory,
  data: data_folder.RunData,
  calibration: calibration_stage.Calibration,
  quantised: Quantisation,
  device: "Optional[DeviceRequest]" = None,
) -> ExportRequest:
  """Gathers what exporters need of a run; the test split is only evaluated on."""
  model, masks = model_files.load(run.model)
  task = model_files.read_task(run.model)
  inputs, labels = data_folder.read_test(data, task)
  provenance = provenance_of_run(config, data, calibration.described, quantised)
  report = run.read_report()
  dense = report["accuracy" if task.has_classes else "auc_by_model"]["dense"]
  return ExportRequest(
    model=model,
    masks=masks,
    task=task,
    calibration=calibration.given,
    evaluation_inputs=inputs,
    evaluation_labels=labels,
    class_names=data.info.class_names,
    provenance=dataclasses.replace(provenance, dense_quality=dense),
    quantisation_aware_model=quantised.model,
    mcu=boards.mcu_options(config),
    device=device,
  )


def _write(folder: pathlib.Path, target: str, bundle: ExportBundle) -> None:
  with files.replacing_folder(folder / target) as fresh:
    for path, content in bundle.files.items():
      top, _, name = path.partition("/")
      if top != target or not name:
        raise ValueError(f"exporter {target!r} names a file outside its folder: {path}")
      (fresh / name).parent.mkdir(parents=True, exist_ok=True)
      (fresh / name).write_bytes(content)


def _verified_on_arm64(
  bundle: ExportBundle, request: ExportRequest, progress: Progress
) -> dict[str, Any]:
  """Returns `Arm64Figures` of every file by path."""
  # Like a target's exporter, it loads its runtime only when it is used.
  from tflite_export.arm64 import arm64_verify

  total = arm64_verify.count_steps(bundle)
  described = "on emulated ARM64, files checked and then timed: step"
  with progress.steps(described, total, 0) as steps:
    return arm64_verify.verify(bundle, request, steps.advance)


def _timed(
  bundle: ExportBundle, request: ExportRequest, steps: ExportSteps
) -> dict[str, Any]:
  """Returns `Latency` of every file by path."""
  from tflite_export.runtimes import latency

  return latency.measure(
    {row.path: bundle.files[row.path] for row in bundle.artifacts},
    request.evaluation_inputs[0],
    threads=steps.benchmark_threads,
    runs=steps.benchmark_runs,
  )


def _compiled(
  bundle: ExportBundle, progress: Progress, steps: ExportSteps
) -> dict[str, list[dict[str, Any]]]:
  """Compiles C++ sources with what there is; returns objects by the file they hold.

  Raises:
    VerificationError: They do not compile.
  """
  if steps.tflm_dir is not None:
    tflm_checkout.compile_example(bundle.files, steps.tflm_dir)
    progress.say(f"main_functions.cc compiles with the headers of {steps.tflm_dir}")
    return {}
  from pipelines.firmware import firmware_build

  checked = firmware_build.check(bundle.files)
  for line in checked.lines:
    progress.say(line)
  rows = [dataclasses.asdict(each) for each in checked.objects]
  return {firmware_build.MODEL_PATH: rows} if rows else {}


def _exported(
  target: str, request: ExportRequest, progress: Progress, steps: ExportSteps
) -> tuple[ExportBundle, list[dict[str, Any]]]:
  """Returns a target's files and their rows.

  Raises:
    VerificationError: When a file is not what it must be.
  """
  bundle = targets.TARGETS[target](request)
  objects = _compiled(bundle, progress, steps) if target == "mcu" else {}
  arm64: dict[str, Any] = {}
  seconds: dict[str, Any] = {}
  if target in LITERT_TARGETS:
    from tflite_export.android import handover

    if steps.verify_arm64:
      arm64 = _verified_on_arm64(bundle, request, progress)
    if steps.benchmark:
      progress.say(f"timing {len(bundle.artifacts)} files in turn")
      seconds = _timed(bundle, request, steps)
    bundle = handover.with_handover(bundle, request, arm64)
  for warning in _warnings(bundle, request):
    progress.warn(warning)

  def optional(figures: Optional[Any]) -> Optional[dict[str, Any]]:
    return None if figures is None else dataclasses.asdict(figures)

  rows = [
    dataclasses.asdict(artifact)
    | {
      "recommended": artifact.path == bundle.recommended,
      "arm64": optional(arm64.get(artifact.path)),
      "latency": optional(seconds.get(artifact.path)),
      "firmware_objects": objects.get(artifact.path),
    }
    for artifact in bundle.artifacts
  ]
  return bundle, rows


def _warnings(bundle: ExportBundle, request: ExportRequest) -> list[str]:
  """Returns what a user must hear of before a report is read."""
  found = [f"{each.path}: {each.note}" for each in bundle.artifacts if each.note]
  accuracies = [each.accuracy for each in bundle.artifacts if each.accuracy is not None]
  for each in bundle.artifacts:
    if each.accuracy is not None and max(accuracies) - each.accuracy > LARGEST_DROP:
      found.append(
        f"{each.path}: accuracy is {max(accuracies) - each.accuracy:.1%} below the best "
        "file's; --quantisation_aware=always or another calibration may help"
      )
  names, dense = clean_labels(request.class_names), request.provenance.dense_quality
  for each in bundle.artifacts:
    if each.path == bundle.recommended:
      told = recommendation.warnings(each, names, dense)
      found += [f"{each.path}: {warning}" for warning in told]
  return found


def export_all(
  names: list[str],
  request: ExportRequest,
  folder: pathlib.Path,
  progress: Progress,
  steps: ExportSteps,
  record: Callable[[list[str]], None] = lambda paths: None,
) -> tuple[list[dict[str, Any]], list[VerificationError]]:
  """Exports to every named target.

  Files of a target are written together, after those of all targets were made and
  verified; a target that fails leaves nothing in its folder, not even from before.

  Args:
    names: Keys of `targets.TARGETS`.
    request: The model and its data.
    folder: Where each target's folder goes.
    progress: Where progress is shown.
    steps: What else is done.
    record: Called with the paths of all files, relative to the folder, before the first
      of them is written.

  Returns:
    One mapping per `.tflite`, paths relative to the folder; and an error per target
    that failed verification, or that there is too little memory for.
  """
  rows: list[dict[str, Any]] = []
  bundles: dict[str, ExportBundle] = {}
  failures: list[VerificationError] = []
  for target in names:
    with progress.stage(f"export_{target}", f"exporting and verifying: {target}"):
      try:
        bundles[target], of_target = _exported(target, request, progress, steps)
      except VerificationError as error:
        before = ""
        if (folder / target).exists():
          before = (
            "; what an earlier export made is removed: the flags of then make it again"
          )
        failures.append(_kind([error])(f"{target}: {error}{before}"))
        continue
    rows += of_target
  if bundles:
    record([path for bundle in bundles.values() for path in bundle.files])
  for target in names:
    if target in bundles:
      _write(folder, target, bundles[target])
    else:
      shutil.rmtree(folder / target, ignore_errors=True)
  return rows, failures


def _kind(failures: list[VerificationError]) -> type[VerificationError]:
  """Returns what failures are together: only a lack of memory, or worse."""
  all_budgets = all(isinstance(failure, BudgetError) for failure in failures)
  return BudgetError if all_budgets else VerificationError


def raise_any(failures: list[VerificationError]) -> None:
  """Raises failures as one.

  Raises:
    BudgetError: There are some, and none is worse than a lack of memory.
    VerificationError: There are others.
  """
  if failures:
    raise _kind(failures)("; ".join(map(str, failures)))
