"""The main job end to end, in its own process: one run is done, many tests look."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from fedtiny_tff.federated.runtimes import runtime
from pipelines import evaluate, export, run, train
from pipelines.runs import metrics_log
from pipelines.settings import run_flags
from tests.pipelines import equal_runs, finished_run, report_schema, support
from tests.pipelines.finished_run import FinishedRun

TINY = support.TINY
LAYERS = ["conv2", "conv3", "conv4", "dense1", "logits"]
TFLITES = support.TFLITES
FP32_DENSE = "export/android/fp32_dense.tflite"
FP32_SPARSE = "export/android/fp32_sparse.tflite"
MCU = support.MCU_FILES[0]


@pytest.fixture(name="work", scope="module")
def fixture_work(tmp_path_factory):
  return tmp_path_factory.mktemp("apps")


@pytest.fixture(name="flagfile", scope="module")
def fixture_flagfile(work):
  return support.write_flagfile(work / "tiny.flags", TINY)


@pytest.fixture(name="finished", scope="module")
def fixture_finished(work, flagfile):
  # The space in its name must not matter anywhere.
  return finished_run.make(work, "first run", f"--flagfile={flagfile}", "--profile=2")


@pytest.fixture(name="copied")
def fixture_copied(finished, tmp_path):
  path = shutil.copytree(finished.path, tmp_path / "copy")
  return FinishedRun(path, finished.app, finished.arguments)


class TestDirectory:
  def test_the_directory_holds_what_was_promised(self, finished):
    found = support.snapshot(finished.path)
    names = ["run.flags", "metrics.csv", "selection.csv", "report.json", *TFLITES]
    names += ["data.json", "model/model.keras", "model/masks.npz"]
    names += [f"export/mcu/model_data.{end}" for end in ("cc", "h")]
    assert not [name for name in names if not found.get(name)]
    assert any(re.match(r"tensorboard/events\.", name) for name in found)
    assert "state/sparse/round_000004.state" in found

  def test_nothing_temporary_is_left(self, finished):
    assert not [p for p in finished.path.rglob("*") if p.name.startswith(".")]

  def test_nothing_else_is_exported(self, finished):
    found = {str(p.relative_to(finished.path)) for p in finished.path.rglob("*.tflite")}
    assert found == set(TFLITES)

  def test_no_worker_survives(self, finished):
    assert finished.app.survivors() == []

  def test_progress_goes_to_stderr_and_the_table_to_stdout(self, finished):
    assert "sparse round 4/4" in finished.app.stderr
    assert "\x1b" not in finished.app.stdout + finished.app.stderr
    assert not re.search("exception|traceback", finished.app.stderr, re.I)
    # So short a run is right about little, and says so of the file to ship: that alone.
    # A kernel that admits no namespaces is another matter, which is told as well.
    said = re.sub(r"WARNING:root:TFF's worker has no auth.*", "", finished.app.stderr)
    warned = re.findall(r"warning: (.*)", said)
    assert len(warned) == len(re.findall("warning", said, re.I)) == 2
    told = ("no example of these classes is", "accuracy is .* below that of")
    for line, about in zip(warned, told, strict=True):
      assert re.fullmatch(rf"android/\w+\.tflite: {about} .*", line)
    assert "round 4/4" not in finished.app.stdout
    figures = finished.report["accuracy"]
    for what in ("dense", "sparse"):
      assert f"{100 * figures[what]:.2f} %" in finished.app.stdout
    for path in TFLITES:
      assert path in finished.app.stdout
    assert f"{finished.path}/" in finished.app.stdout


class TestMetrics:
  def test_metrics_have_a_row_a_round(self, finished):
    text = (finished.path / "metrics.csv").read_text()
    assert text.splitlines()[0] == (
      "round,train_loss,train_accuracy,eval_loss,eval_accuracy,density,clients,"
      "reports,excluded,attempts,seconds,cpu_seconds,rss_mb,bytes_up_per_client,bytes_down_per_client,"
      "secure_extra_bytes,epsilon,adjusted_block"
    )
    assert finished.column("round") == ["0", "1", "2", "3"]

  def test_rounds_are_evaluated_when_asked_and_at_the_end(self, finished):
    # --eval_every_rounds=3: after round 2, and the last.
    for column in ("eval_loss", "eval_accuracy"):
      is_evaluated = [value != "" for value in finished.column(column)]
      assert is_evaluated == [False, False, True, True]

  def test_blocks_take_turns_from_the_output(self, finished):
    # Of three blocks: 2 at round 1, 1 at round 2; none from --adjust_until_round=3.
    assert finished.column("adjusted_block") == ["", "2", "1", ""]

  def test_figures_of_every_round_are_plausible(self, finished):
    for row in finished.rows():
      assert float(row["train_loss"]) > 0
      assert 0 <= float(row["train_accuracy"]) <= 1
      if row["eval_loss"]:
        assert float(row["eval_loss"]) > 0
        assert 0 <= float(row["eval_accuracy"]) <= 1
      assert float(row["seconds"]) > 0
      assert float(row["cpu_seconds"]) > 0
      assert float(row["rss_mb"]) > 100
      assert row["clients"] == "3"

  def test_density_is_exact_in_every_round(self, finished):
    assert set(map(float, finished.column("density"))) == {
      support.ACTIVE / support.PRUNABLE
    }

  def test_bytes_up_are_the_values_and_the_gradients_of_the_event(self, finished):
    # Values: 3,699 active, 506 unpruned parameters, mean and variance of 144 channels.
    values = 4 * (support.ACTIVE + 506 + 2 * 144)
    rows = finished.rows()
    ordinary = [row for row in rows if not row["adjusted_block"]]
    plain = [int(row["bytes_up_per_client"]) for row in ordinary]
    assert len(set(plain)) == 1
    # A few scalars (examples, loss, hits) travel along.
    assert 0 <= plain[0] - values <= 32
    for event in finished.report["events"]:
      moved = sum(layer["dropped"] for layer in event["layers"])
      up = int(rows[event["round"]]["bytes_up_per_client"])
      assert up - plain[0] == 8 * moved

  def test_bytes_down_are_the_values_and_their_positions(self, finished):
    values = 4 * (support.ACTIVE + 506 + 2 * 144)
    # Elias-Fano cut at 3 bits: 3 · 3,699 bits, and 3,699 + (36,991 >> 3) + 1 bits.
    positions = 1_388 + 1_041
    assert positions < support.PRUNABLE // 8
    for row in finished.rows():
      assert 0 <= int(row["bytes_down_per_client"]) - values - positions <= 64

  def test_the_dense_run_has_its_own_table(self, finished):
    rows = finished.rows("metrics_dense.csv")
    assert [row["round"] for row in rows] == ["0", "1", "2", "3"]
    assert {row["density"] for row in rows} == {"1.0"}
    assert {row["adjusted_block"] for row in rows} == {""}

  @pytest.mark.parametrize("suffix", ["", "_dense"])
  def test_json_lines_say_what_the_table_says(self, finished, suffix):
    lines = (finished.path / f"metrics{suffix}.jsonl").read_text().splitlines()
    read = [json.loads(line) for line in lines]
    events = finished.report["events"] if not suffix else []
    changes = {each["round"]: each["layers"] for each in events}
    for row, told in zip(finished.rows(f"metrics{suffix}.csv"), read, strict=True):
      change = told.pop("mask_change")
      assert (change and change["layers"]) == changes.get(told["round"])
      assert {n: "" if v is None else str(v) for n, v in told.items()} == row

  def test_tensorboard_shows_the_metrics(self, finished):
    steps = finished.tensorboard_steps()
    assert steps.pop("eval_loss") == steps.pop("eval_accuracy") == [2, 3]
    assert steps.pop("adjusted_block") == [1, 2]
    more = {
      tag: steps.pop(tag) for tag in list(steps) if tag not in metrics_log.COLUMNS
    }
    assert more.pop("candidate_loss") == more.pop("candidate_accuracy") == [0, 1, 2]
    assert more.pop("label_by_client") == [0]
    # Densities at the start, then where the mask was adjusted.
    assert more.pop("layer_densities") == [0, 1, 2]
    assert more["mask_change/dropped/dense1"] == more["mask_change/grown/logits"] == [1]
    assert more["mask_change/dropped/conv3"] == more["mask_change/grown/conv4"] == [2]
    elsewhere = {"eval_loss", "eval_accuracy", "adjusted_block", "round", "epsilon"}
    assert set(steps) | elsewhere == set(metrics_log.COLUMNS)
    assert all(seen == [0, 1, 2, 3] for seen in steps.values())

  def test_the_profile_tells_where_time_goes(self, finished):
    profile = json.loads((finished.path / "profile" / "profile.json").read_text())
    assert profile["rounds"] == [1, 2]
    assert sum(part["share"] for part in profile["parts"]) == pytest.approx(1.0)
    parts = {(part["stage"], part["where"]) for part in profile["parts"]}
    assert ("clients and aggregation", "worker") in parts
    assert ("evaluation", "worker") in parts
    assert ("saving the state", "driver") in parts
    assert profile["client"]["examples"] > 0
    # Values of the round go to the worker, and come back.
    assert profile["bytes_to_worker_per_round"] > 4 * support.ACTIVE
    assert "clients and aggregation" in finished.app.stdout
    for part in ("rounds", "client"):
      folder = finished.path / "profile" / part / "plugins" / "profile"
      assert list(folder.glob("*/*.xplane.pb"))


class TestSelection:
  def test_the_candidate_of_least_loss_is_chosen(self, finished):
    text = (finished.path / "selection.csv").read_text()
    assert text.splitlines()[0] == "candidate,density,loss,accuracy,chosen"
    rows = finished.rows("selection.csv")
    losses = [float(row["loss"]) for row in rows]
    assert len(set(losses)) == 3
    chosen = [int(row["chosen"]) for row in rows]
    assert sorted(chosen) == [0, 0, 1]
    assert chosen.index(1) == int(np.argmin(losses))
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)

  def test_all_candidates_have_the_same_exact_density(self, finished):
    rows = finished.rows("selection.csv")
    assert {float(r["density"]) for r in rows} == {support.ACTIVE / support.PRUNABLE}


class TestReport:
  def test_the_report_fits_its_schema(self, finished):
    report_schema.validator().validate(finished.report)

  def test_accuracy_names_dense_sparse_and_every_file(self, finished):
    made = finished.report
    assert [row["path"] for row in made["artifacts"]] == TFLITES
    assert set(made["accuracy"]) == {"dense", "sparse", *TFLITES}
    for row in made["artifacts"]:
      assert made["accuracy"][row["path"]] == row["accuracy"]
    assert all(isinstance(value, float) for value in made["accuracy"].values())

  def test_artifacts_tell_the_size_of_the_files(self, finished):
    rows = {row["path"]: row for row in finished.report["artifacts"]}
    for path, row in rows.items():
      assert row["bytes"] == (finished.path / path).stat().st_size
      assert row["target"] == path.split("/")[1]
    assert [rows[path]["format"] for path in TFLITES] == [
      *(pathlib.PurePath(path).stem for path in support.ANDROID_FILES),
      "int8_decode",
      "int8_dense",
    ]
    android = zip(support.ANDROID_FILES[1::2], support.ANDROID_FILES[::2], strict=True)
    for sparse, dense in (*android, support.MCU_FILES):
      assert rows[sparse]["dense_bytes"] == rows[dense]["bytes"] > rows[sparse]["bytes"]
      assert rows[sparse]["accuracy"] == rows[dense]["accuracy"]
    assert rows[FP32_DENSE]["argmax_agreement"] == 1.0
    assert rows[MCU]["arena_bytes"] > 0
    assert rows[FP32_SPARSE]["arena_bytes"] is None

  def test_density_is_exact_overall_and_by_layer(self, finished):
    made = finished.report
    assert made["density"] == support.ACTIVE / support.PRUNABLE
    assert [layer["name"] for layer in made["layers"]] == LAYERS
    assert [layer["block"] for layer in made["layers"]] == [0, 1, 1, 2, 2]
    sizes = [int(np.prod(layer["shape"])) for layer in made["layers"]]
    assert sum(sizes) == support.PRUNABLE
    densities = [layer["density"] for layer in made["layers"]]
    active = [density * n for density, n in zip(densities, sizes, strict=True)]
    assert round(sum(active), 6) == support.ACTIVE

  def test_events_grow_what_they_drop(self, finished):
    made = finished.report
    assert [(event["round"], event["block"]) for event in made["events"]] == [
      (1, 2),
      (2, 1),
    ]
    for event in made["events"]:
      members = [x["name"] for x in made["layers"] if x["block"] == event["block"]]
      assert [layer["name"] for layer in event["layers"]] == members
      for layer in event["layers"]:
        assert layer["dropped"] == layer["grown"] > 0

  def test_the_report_repeats_the_flags(self, finished):
    made = finished.report["run"]
    assert {name: made[name] for name in TINY} == TINY
    assert set(made) == set(run_flags.names()) - set(run_flags.NOT_CONFIGURATION)

  def test_the_report_counts_every_example_once(self, finished):
    made = finished.report["dataset"]
    # 1,797 digits; a fifth of each class is the test split; 3 of each are public.
    assert made["public_examples"] == 30
    parts = ("training", "development", "public", "test")
    assert sum(made[f"{part}_examples"] for part in parts) == 1797

  def test_seconds_cover_every_stage(self, finished):
    assert set(finished.report["seconds"]) == {
      "data", "pretrain", "runtime", "selection", "sparse_rounds", "dense_rounds",
      "finalize", "export_android", "export_mcu",
    }  # fmt: skip

  def test_costs_are_below_dense(self, finished):
    costs = finished.report["cost"]
    for name in ("forward_flops", "adjust_round_flops", "memory_bytes", "upload_bytes"):
      assert 0 < costs[name] < costs["dense"][name]

  def test_predicted_bytes_are_those_that_travelled(self, finished):
    costs, rows = finished.report["cost"], finished.rows()
    up = [int(row["bytes_up_per_client"]) for row in rows]
    assert costs["adjust_upload_bytes"] == max(up)
    assert costs["upload_bytes"] == min(up) == up[0]
    assert costs["download_bytes"] == int(rows[0]["bytes_down_per_client"])


class TestModel:
  def test_masks_and_model_agree_with_the_report(self, finished):
    assert sorted(finished.masks) == sorted(LAYERS)
    for layer in finished.report["layers"]:
      mask = finished.masks[layer["name"]]
      assert mask.dtype == bool
      assert list(mask.shape) == layer["shape"]
      assert mask.sum() / mask.size == layer["density"]
      kernel = finished.model.get_layer(layer["name"]).kernel.numpy()
      assert not kernel[~mask].any()
      assert kernel[mask].any()

  def test_the_model_is_stripped(self, finished):
    kinds = {type(layer).__name__ for layer in finished.model.layers}
    assert not [kind for kind in kinds if "Prune" in kind or "Mask" in kind]
    assert not [w.name for w in finished.model.weights if "mask" in w.name]


def _no_training(monkeypatch):
  def fail(self):
    raise AssertionError("a worker was started")

  monkeypatch.setattr(runtime.LocalRuntime, "__enter__", fail)


class TestOtherApps:
  @pytest.mark.parametrize(("name", "main"), [("run", run.main), ("train", train.main)])
  def test_a_finished_run_only_prints_its_summary(
    self, finished, monkeypatch, capsys, name, main
  ):
    _no_training(monkeypatch)
    before = support.snapshot(finished.path)
    assert support.call(name, main, *finished.arguments) == 0
    printed = capsys.readouterr()
    assert printed.out == finished.app.stdout
    (line,) = printed.err.splitlines()
    assert f"{finished.path}: finished before, with the data as they were then" in line
    assert support.snapshot(finished.path) == before

  @pytest.mark.parametrize("folder", ["--run_dir", "--output_dir"])
  def test_evaluate_agrees_with_the_report(self, finished, flagfile, capsys, folder):
    arguments = [f"{folder}={finished.path}", f"--flagfile={flagfile}"]
    assert support.call("evaluate", evaluate.main, *arguments, "--format=json") == 0
    figures = json.loads(capsys.readouterr().out)
    made = finished.report
    assert figures["accuracy"] == made["accuracy"]["sparse"]
    assert figures["density"] == made["density"]
    assert figures["test_examples"] == made["dataset"]["test_examples"]
    assert figures["loss"] > 0
    by_class = figures["accuracy_by_class"]
    assert list(by_class) == made["dataset"]["classes"]
    assert min(by_class.values()) <= figures["accuracy"] <= max(by_class.values())

  def test_evaluate_prints_text(self, finished, capsys):
    assert support.call("evaluate", evaluate.main, f"--run_dir={finished.path}") == 0
    text = capsys.readouterr().out
    made = finished.report
    assert re.search(rf"^accuracy +{made['accuracy']['sparse']:.4f}$", text, re.M)
    assert re.search(rf"^density +{made['density']:.4f}$", text, re.M)
    assert re.search(
      rf"^test_examples +{made['dataset']['test_examples']}$", text, re.M
    )
    assert len(re.findall(r"^  class \d ", text, re.M)) == 10

  def test_evaluate_changes_nothing(self, finished):
    before = support.snapshot(finished.path)
    assert support.call("evaluate", evaluate.main, f"--run_dir={finished.path}") == 0
    assert support.snapshot(finished.path) == before

  def test_train_then_export_is_run(self, finished, copied, flagfile, capsys):
    """Rounds are stored, so training needs no round; the export is the run's."""
    shutil.rmtree(copied.path / "model")
    shutil.rmtree(copied.path / "export")
    (copied.path / "report.json").unlink()
    arguments = [f"--flagfile={flagfile}", f"--output_dir={copied.path}"]
    assert support.call("train", train.main, *arguments) == 0
    made = copied.report
    assert made["artifacts"] == []
    assert set(made["accuracy"]) == {"dense", "sparse"}
    assert not (copied.path / "export").exists()
    one = [f"--run_dir={copied.path}", "--targets=android"]
    assert support.call("export", export.main, *one) == 0
    assert set(copied.report["accuracy"]) == {"dense", "sparse", *support.ANDROID_FILES}
    rest = [f"--flagfile={flagfile}", f"--run_dir={copied.path}", "--targets=mcu"]
    capsys.readouterr()
    assert support.call("export", export.main, *rest) == 0
    printed = capsys.readouterr().out
    assert [path for path in TFLITES if path in printed] == support.MCU_FILES
    assert "Exported earlier, and not shown: android" in printed
    assert equal_runs.results(copied.path) == equal_runs.results(finished.path)

  def test_run_exports_again_what_is_missing(self, finished, copied, monkeypatch):
    _no_training(monkeypatch)
    (copied.path / MCU).unlink()
    untouched = (copied.path / FP32_SPARSE).stat().st_mtime_ns
    arguments = [copied.arguments[0], f"--output_dir={copied.path}"]
    assert support.call("run", run.main, *arguments) == 0
    assert (copied.path / FP32_SPARSE).stat().st_mtime_ns == untouched
    assert equal_runs.results(copied.path) == equal_runs.results(finished.path)
