"""The app: what it prints, and that only unreadable files change the exit code."""

import json
import subprocess
import sys

import pytest

from pipelines import app, inspect
from tests.pipelines import support
from tests.tflite_export import models


def call(*arguments):
  with support.fresh_flags():
    command = ["pipelines/inspect.py", *map(str, arguments)]
    return app.run_app(inspect.main, "", {}, command, arguments=["FILE.tflite"])


@pytest.fixture(name="file")
def fixture_file(tmp_path):
  path = tmp_path / "model.tflite"
  path.write_bytes(models.converted("fp32_sparse", 0.2))
  return path


def test_json_alone(file, capsys):
  assert call(file, "--format=json") == 0
  printed = capsys.readouterr()
  assert printed.err == ""
  report = json.loads(printed.out)
  assert {"eligible", "zero_fraction_1x1", "errors", "ops"} <= set(report)
  assert report["eligible"] is True
  assert report["errors"] == []
  keys = ["index", "type", "density", "stored", "sparse_on_arm", "reason", "mend"]
  assert all(set(keys) <= set(op) for op in report["ops"])
  first = next(op for op in report["ops"] if op["stored"] == "sparse")
  assert (first["type"], first["sparse_on_arm"]) == ("CONV_2D", True)


def test_text(file, capsys):
  assert call(file) == 0
  text = capsys.readouterr().out
  assert text.startswith("Eligible for sparse inference on ARM: yes\n")
  assert "of the weights are zero; 100.0% of" in text
  assert "needed; sparse" in text
  assert "FULLY_CONNECTED: dense layers have no sparse kernel" in text
  assert max(map(len, text.splitlines()[3:-4])) <= 80


def test_the_verdict_is_no_exit_code(tmp_path, capsys):
  path = tmp_path / "dense.tflite"
  path.write_bytes(models.converted("fp32_dense", 0.2))
  assert call(path, "--format=json") == 0
  assert json.loads(capsys.readouterr().out)["eligible"] is False


def test_bad_input_is_one_line(file, tmp_path, capsys):
  broken = tmp_path / "broken.tflite"
  broken.write_bytes(file.read_bytes()[:3000])
  for arguments, said in [
    ([broken], "broken.tflite: the .tflite bytes are damaged"),
    ([tmp_path / "none.tflite"], "none.tflite: No such file"),
    ([tmp_path], "is not a file"),
    ([support.ROOT / "README.md"], "README.md: the bytes are not a .tflite file"),
    ([], "FILE.tflite is missing"),
    ([file, "more"], "unexpected argument 'more'"),
  ]:
    assert call(*arguments, "--format=json") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("inspect: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err


def test_help_is_light():
  ended = subprocess.run(
    [sys.executable, "-X", "importtime", "-m", "pipelines.inspect", "--help"],
    cwd=support.ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert "python -m pipelines.inspect FILE.tflite" in ended.stdout
  assert "  --format " in ended.stdout
  imported = {line.split("|")[-1].strip() for line in ended.stderr.splitlines()}
  roots = {module.split(".")[0] for module in imported}
  assert not roots & {"tensorflow", "tensorflow_federated", "keras", "numpy"}
