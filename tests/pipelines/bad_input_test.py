"""Bad input: exit code 2, one line that names the app, and nothing left behind."""

import os
import shutil

import pytest

from pipelines import evaluate, export, run, train
from tests.pipelines import support

MAINS = {
  "run": run.main,
  "train": train.main,
  "export": export.main,
  "evaluate": evaluate.main,
}


@pytest.fixture(name="made", scope="module")
def fixture_made(tmp_path_factory):
  return support.make_untrained_run(tmp_path_factory.mktemp("runs") / "made").path


@pytest.fixture(name="place")
def fixture_place(tmp_path, made):
  """A folder with everything that a command line may wrongly point at."""
  support.write_flagfile(tmp_path / "tiny.flags", support.TINY)
  (tmp_path / "wrong.flags").write_text("--rounds=4\n--no_such_flag=1\n")
  (tmp_path / "binary.flags").write_bytes(b"--rounds=4\n\xff\xfe\n")
  (tmp_path / "file").write_text("mine")
  (tmp_path / "foreign").mkdir()
  (tmp_path / "foreign" / "thesis.tex").write_text("mine")
  (tmp_path / "empty").mkdir()
  (tmp_path / "hidden" / ".git").mkdir(parents=True)
  (tmp_path / "no_images").mkdir()
  # A run whose training was broken off before its first state.
  (tmp_path / "begun").mkdir()
  shutil.copy(made / "run.flags", tmp_path / "begun")
  return tmp_path


def _fails(name, place, arguments, said, capsys):
  before = support.snapshot(place)
  command = [argument.replace("{}", str(place)) for argument in arguments]
  assert support.call(name, MAINS[name], *command) == 2
  printed = capsys.readouterr()
  assert printed.err.startswith(f"{name}: "), printed.err
  assert printed.err.count("\n") == 1
  assert printed.err.endswith("\n")
  assert printed.out == ""
  for part in said.replace("{}", str(place)).split(" ... "):
    assert part in printed.err
  assert support.snapshot(place) == before


OUT = "--output_dir={}/new"
TINY = "--flagfile={}/tiny.flags"

TRAINING_CASES = {
  "unknown_flag": ([TINY, OUT, "--no_such_flag=1"], "no_such_flag"),
  "misspelt_flag": ([TINY, OUT, "--round=1"], "round"),
  "no_number": ([TINY, OUT, "--rounds=many"], "--rounds ... many"),
  "density_zero": ([TINY, OUT, "--target_density=0"], "--target_density ... got 0"),
  "density_above_1": (
    [TINY, OUT, "--target_density=1.4"],
    "--target_density must be in (0, 1], got 1.4",
  ),
  "density_nan": ([TINY, OUT, "--target_density=nan"], "--target_density ... nan"),
  "too_many_per_round": (
    [TINY, OUT, "--clients_per_round=5"],
    "--clients_per_round is 5 ... --num_clients=4",
  ),
  "too_many_clients": (
    [TINY, OUT, "--num_clients=500"],
    "500 clients ... --num_clients",
  ),
  "uneven_beyond_reason": (
    [TINY, OUT, "--num_clients=100", "--dirichlet_alpha=0.001"],
    "--dirichlet_alpha",
  ),
  "no_output": ([TINY], "--output_dir is missing"),
  "output_below_file": (
    [TINY, "--output_dir={}/file/new"],
    "--output_dir={}/file/new: cannot be written",
  ),
  "output_in_proc": (
    [TINY, "--output_dir=/proc/new"],
    "--output_dir=/proc/new: cannot be written",
  ),
  "output_is_file": ([TINY, "--output_dir={}/file"], "{}/file: is a file"),
  "output_name_too_long": ([TINY, "--output_dir={}/" + "n" * 300], "too long"),
  "output_is_foreign": (
    [TINY, "--output_dir={}/foreign"],
    "{}/foreign: is not empty and holds no run",
  ),
  "output_is_a_repository": (
    [TINY, "--output_dir={}/hidden"],
    "{}/hidden: is not empty and holds no run",
  ),
  "another_configuration": (
    [TINY, "--output_dir={}/begun", "--rounds=9", "--seed=6"],
    "another configuration: it has ... --rounds=4 ... given is ... --rounds=9 ... --seed=6",
  ),
  "few_public_samples": (
    [TINY, OUT, "--quantisation_aware=public"],
    "--quantisation_aware=public: the server has 30 public examples, needed are 100",
  ),
  "not_for_xnnpack": (
    [TINY, OUT, "--prune_for=xnnpack"],
    "--prune_for=xnnpack ... digits_cnn ... mobilenet_v1_sparse",
  ),
  "no_channel_block": (
    [TINY, OUT, "--channel_block=3"],
    "--channel_block must be one of 1, 2, 4, got 3",
  ),
  "no_percentile": (
    [TINY, OUT, "--calibration_percentile=50"],
    "--calibration_percentile must be in (50, 100], got 50",
  ),
  "no_data_dir": ([TINY, OUT, "--dataset=cifar10"], "--data_dir"),
  "data_dir_missing": (
    [TINY, OUT, "--dataset=cifar10", "--data_dir={}/nowhere"],
    "{}/nowhere is no folder; check --data_dir",
  ),
  "data_dir_without_files": (
    [TINY, OUT, "--dataset=cifar10", "--data_dir={}/no_images"],
    "{}/no_images holds no such file; --data_dir must be a folder with train.tfrecord",
  ),
  "unknown_dataset": ([TINY, OUT, "--dataset=mnist"], "--dataset ... 'mnist'"),
  "unknown_model": ([TINY, OUT, "--model=vgg99"], "--model ... 'vgg99'"),
  "unknown_strategy": ([TINY, OUT, "--strategy=magic"], "--strategy ... 'magic'"),
  "unknown_target": ([TINY, OUT, "--targets=android,ios"], "--targets ... 'ios'"),
  "target_twice": ([TINY, OUT, "--targets=mcu,mcu"], "--targets ... 'mcu'"),
  "flagfile_missing": (["--flagfile={}/none.flags", OUT], "{}/none.flags"),
  "flagfile_is_folder": (["--flagfile={}/empty", OUT], "{}/empty"),
  "flagfile_wrong": (["--flagfile={}/wrong.flags", OUT], "no_such_flag"),
  "flagfile_binary": (["--flagfile={}/binary.flags", OUT], "--flagfile ... UTF-8"),
  "positional": ([TINY, OUT, "rounds=3"], "unexpected argument 'rounds=3'"),
}


@pytest.mark.parametrize("case", TRAINING_CASES)
def test_run_refuses(case, place, capsys):
  _fails("run", place, *TRAINING_CASES[case], capsys)


@pytest.mark.parametrize("case", ["density_above_1", "output_is_file", "no_data_dir"])
def test_train_refuses(case, place, capsys):
  _fails("train", place, *TRAINING_CASES[case], capsys)


RUN_DIR_CASES = {
  "no_run_dir": ([TINY], "--run_dir is missing"),
  "missing": (["--run_dir={}/nowhere"], "--run_dir={}/nowhere: holds no run"),
  "a_file": (["--run_dir={}/file"], "--run_dir={}/file: holds no run"),
  "foreign": (["--run_dir={}/foreign"], "--run_dir={}/foreign: holds no run"),
  "not_trained": (["--run_dir={}/begun"], "{}/begun/"),
  "another_density": (
    ["--run_dir={}/begun", "--target_density=0.2"],
    "--target_density=0.1 ... --target_density=0.2",
  ),
  "another_dataset": (
    ["--run_dir={}/begun", "--dataset=cifar10"],
    "--dataset=digits ... --dataset=cifar10",
  ),
  "bad_density": (["--run_dir={}/begun", "--target_density=nan"], "--target_density"),
  "unknown_target": (["--run_dir={}/begun", "--targets=ios"], "--targets ... 'ios'"),
  "positional": (["--run_dir={}/begun", "{}/begun"], "unexpected argument"),
}


@pytest.mark.parametrize("case", RUN_DIR_CASES)
@pytest.mark.parametrize("name", ["export", "evaluate"])
def test_apps_on_a_run_refuse(name, case, place, capsys):
  _fails(name, place, *RUN_DIR_CASES[case], capsys)


def test_evaluate_refuses_an_unknown_format(place, capsys):
  arguments = ["--run_dir={}/begun", "--format=xml"]
  _fails("evaluate", place, arguments, "--format ... xml", capsys)


@pytest.mark.parametrize("damage", ["model/model.keras", "model/masks.npz"])
@pytest.mark.parametrize("name", ["export", "evaluate"])
def test_a_damaged_model_is_refused(name, damage, made, tmp_path, capsys):
  copied = shutil.copytree(made, tmp_path / "copy")
  (copied / damage).write_bytes((copied / damage).read_bytes()[:100])
  said = f"{copied}/model: model or masks cannot be read"
  _fails(name, tmp_path, [f"--run_dir={copied}"], said, capsys)


def test_a_damaged_report_is_refused(made, tmp_path, capsys):
  copied = shutil.copytree(made, tmp_path / "copy")
  (copied / "report.json").write_text('{"density": ')
  said = f"{copied}/report.json: cannot be read"
  _fails("export", tmp_path, [f"--run_dir={copied}"], said, capsys)


def test_flags_of_a_run_that_are_no_text_are_refused(place, capsys):
  (place / "begun" / "run.flags").write_bytes(b"--rounds=4\n\xff\n")
  _fails("evaluate", place, ["--run_dir={}/begun"], "begun/run.flags", capsys)


def test_bad_input_in_a_process_of_its_own(place, tmp_path_factory):
  """The whole way once, so that nothing of the test process helps."""
  output = tmp_path_factory.mktemp("output")
  before = support.snapshot(place)
  arguments = [f"--output_dir={place}/new", "--target_density=1.4"]
  ended = support.App(output, "run", *arguments)
  assert ended.wait() == 2
  assert ended.stderr == "run: --target_density must be in (0, 1], got 1.4\n"
  assert ended.stdout == ""
  assert support.snapshot(place) == before
  assert not os.path.exists(place / "new")
