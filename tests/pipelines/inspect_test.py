"""The app: what it prints, and that only unreadable files change the exit code."""

import json
import struct
import subprocess
import sys

import pytest
from ai_edge_litert import schema_py_generated as schema

from pipelines import inspect
from pipelines.apps import app
from tests.pipelines import support
from tests.tflite_export import models
from tests.tflite_export.descriptions import description
from tflite_export.decode import tflm_decode
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.file_format.flatbuffer_writer import write_model
from tflite_export.metadata.model_metadata import attach


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
  assert report["metadata"] is None
  keys = ["index", "type", "density", "stored", "sparse_on_arm", "reason", "mend"]
  assert all(set(keys) <= set(op) for op in report["ops"])
  first = next(op for op in report["ops"] if op["stored"] == "sparse")
  assert (first["type"], first["sparse_on_arm"]) == ("CONV_2D", True)


def test_text(file, capsys):
  assert call(file) == 0
  text = capsys.readouterr().out
  assert text.startswith(
    "Eligible for sparse inference by XNNPACK on a phone's ARM: yes\n"
  )
  assert "of the weights are zero; 100.0% of" in text
  assert "needed; sparse" in text
  assert "FULLY_CONNECTED: dense layers have no sparse kernel" in text
  assert "\nNo metadata.\n" in text
  # No operator's name is cut short.
  assert "…" not in text
  assert max(map(len, text.splitlines()[4:-4])) <= 80


class TestMicrocontrollers:
  @pytest.fixture(name="encoded")
  def fixture_encoded(self, tmp_path):
    made = tflm_decode.encode_pruned(models.converted("int8_dense", 0.1))
    path = tmp_path / "model.tflite"
    path.write_bytes(made.model_bytes)
    return path, [each for each in made.tensors if each.encoded]

  def test_text_says_what_the_file_is_for(self, encoded, capsys):
    assert call(encoded[0]) == 0
    text = capsys.readouterr().out
    first, verdict = text.splitlines()[:2]
    assert first.startswith(
      "A file for TensorFlow Lite Micro (PRUNING of its operator DECODE): the verdict on "
      "XNNPACK below is about phones"
    )
    assert verdict == "Eligible for sparse inference by XNNPACK on a phone's ARM: no"
    assert "CUSTOM" not in text
    assert "…" not in text

  def test_what_is_unpacked_is_told(self, encoded, capsys):
    path, tensors = encoded
    assert call(path, "--format=json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["decoded_forms"] == ["PRUNING"]
    rows = [row for row in report["ops"] if row["type"] == "TFLM_DECODE"]
    assert {row["stored"] for row in rows} == {"PRUNING"}
    assert {row["weight_dtype"] for row in rows} <= {"int8", "int32"}
    assert sum(row["weight_bytes"] for row in rows) == sum(
      each.stored_bytes for each in tensors
    )
    # Headers take 16 bytes, a bit an element stands beside the values.
    (expand,) = (each for each in tensors if each.dense_bytes == 512)
    values = expand.stored_bytes - 16 - 512 // 8
    assert values / 512 in [row["density"] for row in rows]

  def test_other_files_are_no_such(self, file, capsys):
    assert call(file, "--format=json") == 0
    assert json.loads(capsys.readouterr().out)["decoded_forms"] == []


class TestMetadata:
  def test_text(self, file, capsys):
    file.write_bytes(attach(file.read_bytes(), description(name="a\x1b[2Jb")))
    assert call(file) == 0
    text = capsys.readouterr().out
    assert "Metadata: a�[2Jb (version 1, author FedTiny-TFF" in text
    assert "\n  output logits: 1×4 float32; 4 labels: red, green, blue, rosé;" in text

  def test_json(self, file, capsys):
    file.write_bytes(attach(file.read_bytes(), description()))
    assert call(file, "--format=json") == 0
    told = json.loads(capsys.readouterr().out)["metadata"]
    assert told["licence"] == "Apache-2.0"
    assert told["outputs"][0]["labels"] == ["red", "green", "blue", "rosé"]
    assert told["custom"]["fedtiny_tff"]["density"] == 0.2

  def test_numbers_that_json_does_not_have(self, file, capsys):
    content = attach(file.read_bytes(), description(mean=(1.2345,)))
    number = struct.pack("<f", 1.2345)
    assert content.count(number) == 1
    file.write_bytes(content.replace(number, struct.pack("<f", float("nan"))))
    assert call(file, "--format=json") == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["metadata"]["inputs"][0]["mean"] == [None]
    assert "NaN" not in printed

  def test_damaged(self, file, capsys):
    content = attach(file.read_bytes(), description())
    file.write_bytes(content.replace(b"M001", b"M002"))
    assert call(file) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "model.tflite: the file's metadata have identifier b'M002'" in printed.err


def test_names_in_a_file_do_nothing_to_a_terminal(file, capsys):
  model = read_model(file.read_bytes())
  code = model.operatorCodes[0]
  code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
  code.customCode = b"\x1b[2Jname"
  file.write_bytes(write_model(model))
  assert call(file) == 0
  printed = capsys.readouterr().out
  assert "does not take �[2Jname" in printed
  assert "\x1b" not in printed


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
