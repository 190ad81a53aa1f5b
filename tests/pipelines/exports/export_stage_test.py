"""Verified files or none: also when a verification fails."""

import dataclasses
import io
import json

import numpy as np
import pytest
import rich.console

from pipelines import export
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder, data_stage
from pipelines.exports import export_stage
from pipelines.firmware import firmware_build
from pipelines.runs.run_directory import RunDirectory
from tests.pipelines import support
from tests.pipelines.handmade_reports import toy_bundle
from tflite_export import targets
from tflite_export.android import handover
from tflite_export.artifacts import BudgetError, VerificationError
from tflite_export.microcontrollers.firmware_objects import FirmwareObject


@pytest.fixture(name="untrained", scope="module")
def fixture_untrained(tmp_path_factory):
  return support.make_untrained_run(tmp_path_factory.mktemp("runs") / "made")


@pytest.fixture(name="run")
def fixture_run(untrained):
  """The run, as if nothing had been exported yet."""
  run = RunDirectory(untrained.path)
  export_stage.shutil.rmtree(run.export, ignore_errors=True)
  run.report.write_text(json.dumps(untrained.report))
  return run


@pytest.fixture(name="data")
def fixture_data(untrained, run):
  return data_stage.write_data(support.plan_data(untrained.config), run.data)


@pytest.fixture(name="request_")
def fixture_request(untrained, run, data):
  return support.export_request(untrained.config, run, data)


REMOVED = "; what an earlier export made is removed: the flags of then make it again"


def _fail(request):
  raise VerificationError("3 of 359 outputs differ")


def _progress():
  return Progress(rich.console.Console(file=io.StringIO()))


@pytest.fixture(name="uncompiled")
def fixture_uncompiled(monkeypatch):
  """Scripted files hold no sources; a test may put rows in."""
  rows: list[FirmwareObject] = []

  def checked(files):
    return firmware_build.FirmwareCheck(tuple(rows), ("was looked at",))

  monkeypatch.setattr(firmware_build, "check", checked)
  return rows


@pytest.fixture(name="toys")
def fixture_toys(monkeypatch, uncompiled):
  """Two scripted targets, and nothing beside their files; a test may replace either."""
  monkeypatch.setattr(handover, "with_handover", lambda bundle, request, arm64: bundle)
  made = {
    name: lambda request, name=name: toy_bundle(name) for name in ("android", "mcu")
  }
  monkeypatch.setattr(targets, "TARGETS", made)
  return made


def _export(run, request, names):
  return export_stage.export_all(
    names, request, run.export, _progress(), export_stage.ExportSteps()
  )


def _exported(run):
  files = support.snapshot(run.path)
  return {k: v for k, v in files.items() if k.startswith("export/") and v is not None}


def test_the_request_holds_what_exporters_need(request_):
  request = request_
  assert sorted(request.masks) == ["conv2", "conv3", "conv4", "dense1", "logits"]
  assert sum(int(m.sum()) for m in request.masks.values()) == support.ACTIVE
  assert request.evaluation_inputs.shape == (359, 8, 8, 1)
  assert request.evaluation_labels is not None
  assert request.evaluation_labels.shape == (359,)
  assert request.class_names == tuple(str(digit) for digit in range(10))


def test_the_dense_models_accuracy_is_told_to_the_card(request_, run):
  dense = run.read_report()["accuracy"]["dense"]
  assert request_.provenance.dense_quality == dense == 0.975


@pytest.mark.parametrize("is_recommended", [True, False])
def test_what_the_shipped_file_is_bad_at_is_warned_of(
  run, request_, toys, monkeypatch, is_recommended
):
  def handed_over(bundle, request, arm64):
    row = dataclasses.replace(bundle.artifacts[0], class_accuracy=(0.0, *[0.5] * 9))
    path = row.path if is_recommended else None
    return dataclasses.replace(bundle, artifacts=(row,), recommended=path)

  monkeypatch.setattr(handover, "with_handover", handed_over)
  console = io.StringIO()
  (row,), _ = export_stage.export_all(
    ["android"], request_, run.export,
    Progress(rich.console.Console(file=console, width=300)), export_stage.ExportSteps(),
  )  # fmt: skip
  assert row["recommended"] is is_recommended
  warned = [line for line in console.getvalue().splitlines() if "warning" in line]
  assert len(warned) == 2 * is_recommended
  for line, told in zip(
    warned, ("recognised (0 %): 0", "47.50 points below"), strict=False
  ):
    assert "android/model.tflite: " in line
    assert told in line


def test_calibration_never_sees_the_test_split(request_, data):
  request = request_
  assert request.calibration.shape == (30, 8, 8, 1)
  calibration = {image.tobytes() for image in request.calibration}
  assert calibration == {x.tobytes() for x in data_folder.read_all(data.public)[0]}
  assert not calibration & {x.tobytes() for x in request.evaluation_inputs}


def test_files_and_rows_of_all_targets(run, request_, toys):
  rows, failures = _export(run, request_, ["android", "mcu"])
  assert failures == []
  assert [row["path"] for row in rows] == [
    "android/model.tflite",
    "mcu/model.tflite",
  ]
  assert rows[0]["target"] == "android"
  assert _exported(run) == {
    f"export/{name}/{file}": content
    for name in ("android", "mcu")
    for file, content in (("model.tflite", b"bytes"), ("c/README.md", b"text"))
  }


def test_objects_belong_to_the_file_that_the_sources_hold(
  run, request_, toys, uncompiled
):
  rows, _ = _export(run, request_, ["android", "mcu"])
  assert [row["firmware_objects"] for row in rows] == [None, None]
  uncompiled.append(FirmwareObject("a compiler 1", "cortex-m4", "a.cc", 1, 2, 3, 4))
  console = io.StringIO()
  rows, _ = export_stage.export_all(
    ["android", "mcu"], request_, run.export,
    Progress(rich.console.Console(file=console)), export_stage.ExportSteps(),
  )  # fmt: skip
  android, mcu = rows
  assert android["firmware_objects"] is None
  assert mcu["firmware_objects"] == [
    {
      "compiler": "a compiler 1", "cpu": "cortex-m4", "source": "a.cc",
      "text_bytes": 1, "rodata_bytes": 2, "data_bytes": 3, "bss_bytes": 4,
    }
  ]  # fmt: skip
  assert console.getvalue().count("was looked at") == 1


def test_files_of_an_earlier_export_are_gone(run, request_, toys):
  toys["mcu"] = lambda request: toy_bundle("mcu", more={"mcu/old.h": b""})
  _export(run, request_, ["mcu"])
  assert "export/mcu/old.h" in _exported(run)
  toys["mcu"] = lambda request: toy_bundle("mcu")
  _export(run, request_, ["mcu"])
  assert "export/mcu/old.h" not in _exported(run)


def test_a_failing_target_leaves_nothing_and_the_others_go_on(run, request_, toys):
  _export(run, request_, ["android"])
  toys["android"] = _fail
  rows, failures = _export(run, request_, ["android", "mcu"])
  assert [str(failure) for failure in failures] == [
    f"android: 3 of 359 outputs differ{REMOVED}"
  ]
  assert [row["target"] for row in rows] == ["mcu"]
  assert {path.split("/")[1] for path in _exported(run)} == {"mcu"}
  assert not (run.export / "android").exists()


@pytest.mark.parametrize("path", ["mcu/x", "x", "android/", "../x"])
def test_files_outside_the_targets_folder_are_a_defect(run, request_, toys, path):
  toys["android"] = lambda request: toy_bundle("android", more={path: b""})
  with pytest.raises(ValueError, match="outside its folder"):
    _export(run, request_, ["android"])
  assert _exported(run) == {}


def test_a_defect_in_an_exporter_leaves_what_was_there(run, request_, toys):
  _export(run, request_, ["android"])
  before = _exported(run)
  toys["android"] = lambda request: 1 / 0
  with pytest.raises(ZeroDivisionError):
    _export(run, request_, ["android"])
  assert _exported(run) == before


def test_a_failed_verification_ends_the_command_with_3(
  run, monkeypatch, capsys, uncompiled
):
  """With the real exporter for the other target, and files from before."""
  arguments = [f"--run_dir={run.path}", "--targets=android,mcu"]
  monkeypatch.setitem(targets.TARGETS, "mcu", lambda request: toy_bundle("mcu"))
  assert support.call("export", export.main, *arguments) == 0
  assert "export/mcu/model.tflite" in run.read_report()["accuracy"]
  monkeypatch.setitem(targets.TARGETS, "mcu", _fail)
  capsys.readouterr()
  assert support.call("export", export.main, *arguments) == 3
  printed = capsys.readouterr()
  assert printed.err.splitlines()[-1] == (
    f"export: verification failed: mcu: 3 of 359 outputs differ{REMOVED}"
  )
  assert "Traceback" not in printed.err
  assert printed.out == ""
  assert sorted(_exported(run)) == sorted(
    [*support.ANDROID_FILES, *support.HANDOVER_FILES]
  )
  # The report tells what is there, and no more.
  made = run.read_report()
  assert [row["path"] for row in made["artifacts"]] == support.ANDROID_FILES
  assert set(made["accuracy"]) == {"dense", "sparse", *support.ANDROID_FILES}
  assert not [p for p in run.path.rglob("*") if p.name.startswith(".")]


def test_a_masked_weight_that_is_not_zero_is_not_exported(run, request_):
  """The failing direction of the real exporters."""
  layer = request_.model.get_layer("conv3")
  kernel = layer.kernel.numpy()
  kernel[tuple(np.argwhere(~request_.masks["conv3"])[0])] = 0.5
  layer.kernel.assign(kernel)
  rows, failures = _export(run, request_, ["android", "mcu"])
  assert rows == []
  assert [str(line).split(":")[0] for line in failures] == ["android", "mcu"]
  assert _exported(run) == {}


def test_a_lack_of_memory_ships_nothing_and_stays_one(run, request_, toys):
  def too_large(request):
    raise BudgetError("9 of 8 bytes")

  toys["mcu"] = too_large
  _, failures = _export(run, request_, ["android", "mcu"])
  assert list(_exported(run)) == [
    "export/android/c/README.md",
    "export/android/model.tflite",
  ]
  with pytest.raises(BudgetError, match=r"^mcu: 9 of 8 bytes$"):
    export_stage.raise_any(failures)
  # Beside a file that is wrong it is the lesser evil.
  toys["android"] = _fail
  _, failures = _export(run, request_, ["android", "mcu"])
  with pytest.raises(
    VerificationError, match=r"^android: 3 of .*; mcu: 9 of"
  ) as caught:
    export_stage.raise_any(failures)
  assert not isinstance(caught.value, BudgetError)


def test_without_failures_nothing_is_raised():
  export_stage.raise_any([])
