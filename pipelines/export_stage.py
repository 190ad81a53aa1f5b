"""final model -> verified files under `export/` -> rows of the report."""

import dataclasses
import shutil
from typing import Any

from pipelines import data_stage, files, model_files
from pipelines.progress import Progress
from pipelines.run_directory import RunDirectory
from tflite_export import targets
from tflite_export.artifacts import ExportBundle, ExportRequest, VerificationError

# Targets whose files LiteRT runs.
ARM64_TARGETS = ("android",)


def export_request(run: RunDirectory, data: data_stage.RunData) -> ExportRequest:
  """Gathers what exporters need.

  Activation ranges come from the server's public samples; the test split is only
  evaluated on.
  """
  model, masks = model_files.load(run.model)
  task = model_files.read_task(run.model)
  calibration, _ = data_stage.read_all(data.public)
  inputs, labels = data_stage.read_test(data, task)
  return ExportRequest(
    model=model,
    masks=masks,
    task=task,
    calibration_inputs=calibration,
    evaluation_inputs=inputs,
    evaluation_labels=labels,
    class_names=data.info.class_names,
  )


def _write(run: RunDirectory, target: str, bundle: ExportBundle) -> None:
  with files.replacing_folder(run.export / target) as fresh:
    for path, content in bundle.files.items():
      folder, _, name = path.partition("/")
      if folder != target or not name:
        raise ValueError(f"exporter {target!r} names a file outside its folder: {path}")
      (fresh / name).parent.mkdir(parents=True, exist_ok=True)
      (fresh / name).write_bytes(content)


def _verified_on_arm64(
  bundle: ExportBundle, request: ExportRequest, progress: Progress
) -> dict[str, dict[str, Any]]:
  """Returns the figures of every file by path, as in `report.json`."""
  # Like a target's exporter, it loads its runtime only when it is used.
  from tflite_export import arm64_verify

  with progress.steps("on emulated ARM64: file", len(bundle.artifacts), 0) as steps:
    figures = arm64_verify.verify(bundle, request, steps.advance)
  return {path: dataclasses.asdict(figure) for path, figure in figures.items()}


def export_all(
  names: list[str],
  run: RunDirectory,
  data: data_stage.RunData,
  progress: Progress,
  verify_arm64: bool = False,
) -> tuple[list[dict[str, Any]], list[str]]:
  """Exports to every named target.

  Files of a target are written together, after all of them were verified; a
  target that fails leaves nothing under `export/`, not even from before.

  Args:
    names: Keys of `targets.TARGETS`.
    run: The run's directory, with a final model.
    data: The run's data.
    progress: Where progress is shown.
    verify_arm64: Whether files for LiteRT must pass under emulated ARM64 too.

  Returns:
    One mapping per `.tflite`, as in `report.json`; and one line per target that
    failed verification.
  """
  request = export_request(run, data)
  rows: list[dict[str, Any]] = []
  failures = []
  for target in names:
    with progress.stage(f"export_{target}", f"exporting and verifying: {target}"):
      try:
        bundle = targets.TARGETS[target](request)
        arm64: dict[str, dict[str, Any]] = {}
        if verify_arm64 and target in ARM64_TARGETS:
          arm64 = _verified_on_arm64(bundle, request, progress)
      except VerificationError as error:
        shutil.rmtree(run.export / target, ignore_errors=True)
        failures.append(f"{target}: {error}")
        continue
      _write(run, target, bundle)
    for artifact in bundle.artifacts:
      row = dataclasses.asdict(artifact)
      row |= {"path": f"export/{artifact.path}", "arm64": arm64.get(artifact.path)}
      rows.append(row)
  return rows, failures
