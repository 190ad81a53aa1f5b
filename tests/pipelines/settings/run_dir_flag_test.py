"""Apps on a run take over its flags."""

import pytest
from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import run_dir_flag
from tests.pipelines import support


@pytest.fixture(name="path")
def fixture_path(tmp_path):
  run = RunDirectory(tmp_path / "a run")
  run.claim(support.make_config(dense_baseline=False, seed=8))
  return run.path


@pytest.fixture(autouse=True)
def fixture_fresh_flags():
  with support.fresh_flags():
    yield


def _read(*arguments):
  flags.FLAGS(["x", *arguments])
  return run_dir_flag.read()


@pytest.mark.parametrize("flag", ["--run_dir", "--output_dir"])
def test_the_flags_are_those_of_the_run(path, flag):
  assert _read(f"{flag}={path}") == str(path)
  assert flags.FLAGS.seed == 8
  assert flags.FLAGS.dense_baseline is False
  assert flags.FLAGS.targets == ["android", "mcu"]
  assert flags.FLAGS.output_dir == str(path)


def test_run_dir_wins_over_the_flagfile_of_the_run(path, tmp_path):
  flagfile = tmp_path / "f.flags"
  flagfile.write_text(f"--output_dir={tmp_path}/elsewhere\n--seed=8\n")
  assert _read(f"--flagfile={flagfile}", f"--run_dir={path}") == str(path)
  assert flags.FLAGS.output_dir == str(path)


def test_targets_may_differ(path):
  _read(f"--run_dir={path}", "--targets=mcu")
  assert flags.FLAGS.targets == ["mcu"]


def test_the_data_may_have_moved(path):
  _read(f"--run_dir={path}", "--data_dir=/elsewhere")
  assert flags.FLAGS.data_dir == "/elsewhere"


def test_anything_else_may_not_differ(path):
  with pytest.raises(InputError, match=r"--seed=8, got --seed=9"):
    _read(f"--run_dir={path}", "--seed=9")


def test_a_folder_must_be_named():
  with pytest.raises(InputError, match="--run_dir is missing"):
    _read()


def test_a_folder_without_a_run_is_named(tmp_path):
  with pytest.raises(InputError, match=r"holds no run \(run.flags not found\)"):
    _read(f"--run_dir={tmp_path}")


@pytest.mark.parametrize("line", ["--nodense_baseline=1", "--seed=x", '--targets="'])
def test_a_damaged_line_is_told(path, line):
  with (path / "run.flags").open("a") as file:
    file.write(f"{line}\n")
  with pytest.raises(InputError, match=r"run\.flags: .*; restore it"):
    _read(f"--run_dir={path}")


@pytest.mark.parametrize("content", [b"--no_such_flag=1\n", b"--seed=x\n", b"\xff\n"])
def test_flags_that_cannot_be_read_are_named(path, content):
  (path / "run.flags").write_bytes(content)
  with pytest.raises(InputError, match=r"run\.flags: "):
    _read(f"--run_dir={path}")
