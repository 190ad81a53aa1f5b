"""Flags of microcontrollers from the command line to files, and exit code 4."""

import json

import jsonschema
import numpy as np
import pytest

from pipelines import export, run
from pipelines.firmware import cpp_compiler
from pipelines.runs import model_files
from tests.pipelines import support
from tests.tflite_export.cpp import has_arm_compiler, needs_compiler, write
from tflite_export.file_format import flatbuffer_model
from tflite_export.microcontrollers import c_source_example, mcu_budget
from tflite_export.microcontrollers.tflm_stand_ins import stand_ins
from tflite_export.runtimes import tflm

_FLAGS = {
  **support.TINY,
  "rounds": 2,
  "adjust_until_round": 1,
  "pretrain_epochs": 0,
  "selection": "none",
  "dense_baseline": "false",
  "quantisation_aware": "never",
  "targets": "mcu",
  "target_density": 0.3,
}
_NAMES = tuple(str(digit) for digit in range(10))


def _arguments(folder, *more):
  return (
    f"--flagfile={folder / 'tiny.flags'}",
    f"--output_dir={folder / 'run'}",
    *more,
  )


def _flags(path):
  lines = (path / "run.flags").read_text().splitlines()
  return dict(line.removeprefix("--").split("=") for line in lines if "=" in line)


def _footprint(path):
  content = (path / "export/mcu/model.tflite").read_bytes()
  arena = tflm.run(content, np.zeros((1, 8, 8, 1), np.float32)).arena
  return mcu_budget.footprint(content, arena, _NAMES)


def _rows(path):
  return json.loads((path / "report.json").read_text())["artifacts"]


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("budget")
  support.write_flagfile(folder / "tiny.flags", _FLAGS)
  return folder


@pytest.fixture(name="trained", scope="module")
def fixture_trained(folder):
  """A run whose flash was too little for the density given."""
  assert support.call("run", run.main, *_arguments(folder, "--mcu_flash_kb=14")) == 0
  return folder / "run"


def test_training_takes_the_density_that_fits(trained):
  chosen = float(_flags(trained)["target_density"])
  assert _flags(trained)["mcu_density_limit"] == "0.3"
  assert 0.1 < chosen < 0.2
  _, masks = model_files.load(trained / "model")
  kept = sum(int(mask.sum()) for mask in masks.values())
  assert kept == int(chosen * support.PRUNABLE + 1e-9)
  found = _footprint(trained)
  assert 0.96 * 14 * 1024 < found.flash_bytes <= 14 * 1024
  text = (trained / "export/mcu/README.md").read_text()
  assert f"Budget of flash: {found.flash_bytes} of 14336 bytes" in text


def test_the_same_command_and_the_run_s_own_flags_change_nothing(folder, trained):
  before = support.snapshot(trained)
  assert support.call("run", run.main, *_arguments(folder, "--mcu_flash_kb=14")) == 0
  own = f"--flagfile={trained / 'run.flags'}"
  assert support.call("run", run.main, own, f"--output_dir={trained}") == 0
  assert support.snapshot(trained) == before


def test_another_limit_is_another_configuration(folder, trained, capfd):
  more = ("--mcu_flash_kb=14", "--target_density=0.2")
  assert support.call("run", run.main, *_arguments(folder, *more)) == 2
  assert "another configuration" in capfd.readouterr().err


def test_no_density_fits(folder, capfd):
  more = ("--mcu_flash_kb=5", f"--output_dir={folder / 'never'}")
  assert support.call("run", run.main, *_arguments(folder, *more)) == 4
  (line,) = [
    line for line in capfd.readouterr().err.splitlines() if line.startswith("run: ")
  ]
  assert "budget not met: no density from 0.001 to 0.3 fits; at 0.001: flash" in line
  assert "bytes needed, 5,120 allowed" in line
  assert not (folder / "never").exists()


@pytest.fixture(name="untrained")
def fixture_untrained(tmp_path):
  return support.make_untrained_run(tmp_path / "run", targets=["mcu"])


def _export(made, *more):
  return support.call(
    "export", export.main, f"--run_dir={made.path}", "--quantisation_aware=never", *more
  )


class TestExport:
  def test_exactly_fits_and_a_kb_less_does_not(self, untrained, capfd):
    assert _export(untrained, "--board=arduino_nano_33_ble_sense") == 0
    needed = _footprint(untrained.path)
    flash_kb = -(-needed.flash_bytes // 1024)
    assert _export(untrained, f"--mcu_flash_kb={flash_kb}") == 0
    assert (untrained.path / "export/mcu/model.tflite").is_file()
    capfd.readouterr()
    assert _export(untrained, f"--mcu_flash_kb={flash_kb - 1}") == 4
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("export: budget not met: mcu: flash ")
    assert f"{needed.flash_bytes:,} bytes needed" in line
    assert f"{1024 * (flash_kb - 1):,} allowed" in line
    # Nothing of before is left, and the report says so.
    assert not (untrained.path / "export/mcu").exists()
    assert _rows(untrained.path) == []

  def test_fewer_layers_are_encoded_in_little_ram(self, untrained):
    assert _export(untrained) == 0
    free = _footprint(untrained.path)
    assert _export(untrained, "--mcu_ram_kb=20") == 0
    tight = _footprint(untrained.path)
    assert tight.ram_bytes <= 20 * 1024 < free.ram_bytes
    assert tight.flash_bytes > free.flash_bytes
    text = (untrained.path / "export/mcu/README.md").read_text()
    assert mcu_budget.TOO_MUCH_RAM in text

  def test_both_figures_are_told(self, untrained, capfd):
    assert _export(untrained, "--mcu_ram_kb=4", "--mcu_flash_kb=4") == 4
    line = capfd.readouterr().err.splitlines()[-1]
    assert "4,096 allowed; RAM" in line
    assert "the dense twin needs" in line

  def test_other_numbers_and_names(self, untrained):
    more = ("--mcu_activation_bits=16", "--mcu_float_io", "--mcu_keep_names")
    assert _export(untrained, *more) == 0
    names = [row["format"] for row in _rows(untrained.path)]
    assert names == ["int16x8_float_ends_decode", "int16x8_float_ends_dense"]
    content = (untrained.path / "export/mcu/model.tflite").read_bytes()
    assert flatbuffer_model.read_model(content).signatureDefs
    settings = (untrained.path / "export/mcu/model_settings.h").read_text()
    assert "using InputType = float;" in settings
    assert "kOutputScale = 1.00000000e+00f;" in settings


@needs_compiler
def test_the_example_must_compile_with_the_headers_given(untrained, tmp_path, capfd):
  header = "tensorflow/lite/micro/micro_mutable_op_resolver.h"
  flatbuffers = "tensorflow/lite/micro/tools/make/downloads/flatbuffers/include"
  functions = ("AddConv2D", "AddDecode", "AddFullyConnected", "AddMean", "AddMaxPool2D")
  headers = {**stand_ins(functions), f"{flatbuffers}/flatbuffers/flatbuffers.h": ""}
  # It looks like a checkout of TFLM, but computes nothing.
  write(tmp_path / "tflm", headers)
  more = f"--tflm_dir={tmp_path / 'tflm'}"
  assert _export(untrained, more) == 0
  assert "main_functions.cc compiles with the headers of" in capfd.readouterr().err
  path = tmp_path / "tflm" / header
  path.write_text(path.read_text().replace("AddDecode", "AddDecoder"))
  assert _export(untrained, more) == 3
  assert "do not compile" in capfd.readouterr().err
  assert not (untrained.path / "export/mcu").exists()
  assert _export(untrained, f"--tflm_dir={tmp_path}") == 2


def _objects(row):
  return {(each["cpu"], each["source"]): each for each in row["firmware_objects"] or ()}


def _check_objects(rows):
  """With the compiler for ARM there are figures, and only for what the sources hold."""
  row, dense = rows
  assert dense["firmware_objects"] is None
  found = _objects(row)
  assert len(found) == (4 if has_arm_compiler() else 0)
  for (_, source), each in found.items():
    if source == "model_data.cc":
      assert each["rodata_bytes"] == row["bytes"]
    else:
      assert each["bss_bytes"] >= row["arena_bytes"]


@needs_compiler
def test_the_sources_are_compiled(untrained, capfd):
  assert _export(untrained) == 0
  told = capfd.readouterr().err
  assert "model_data.cc links and main_functions.cc compiles with g++" in told
  _check_objects(_rows(untrained.path))
  made = json.loads((untrained.path / "report.json").read_text())
  text = (support.ROOT / "pipelines" / "report.schema.json").read_text()
  jsonschema.Draft202012Validator(json.loads(text)).validate(made)


@needs_compiler
def test_sources_that_do_not_compile_are_not_shipped(untrained, capfd, monkeypatch):
  assert _export(untrained) == 0
  written = c_source_example.example

  def broken(*arguments):
    files = written(*arguments)
    text = files["main_functions.cc"].replace("MicroInterpreter*", "Interpreter*")
    return files | {"main_functions.cc": text}

  monkeypatch.setattr(c_source_example, "example", broken)
  capfd.readouterr()
  assert _export(untrained) == 3
  line = capfd.readouterr().err.splitlines()[-1]
  assert line.startswith(
    "export: verification failed: mcu: the C++ sources do not compile"
  )
  assert "main_functions.cc:" in line
  assert "error" in line
  assert not (untrained.path / "export/mcu").exists()
  assert _rows(untrained.path) == []


def test_without_compilers_it_is_said_what_was_not_checked(
  untrained, capfd, monkeypatch
):
  monkeypatch.setattr(cpp_compiler.shutil, "which", lambda name: None)
  assert _export(untrained) == 0
  told = [line for line in capfd.readouterr().err.splitlines() if "Not checked" in line]
  assert len(told) == 2
  assert "apt-get install g++" in told[0]
  assert "gcc-arm-none-eabi" in told[1]
  assert [row["firmware_objects"] for row in _rows(untrained.path)] == [None, None]


def test_a_keras_model_of_nobody_s_run(untrained, tmp_path, capfd):
  data = tmp_path / "data.npz"
  np.savez(data, x=np.random.default_rng(0).random((8, 8, 8, 1)).astype(np.float32))
  common = (
    f"--keras_model={untrained.path / 'model/model.keras'}",
    f"--representative_data={data}",
    f"--output_dir={tmp_path / 'out'}",
    "--targets=mcu",
  )
  more = ("--mcu_float_io", "--mcu_ram_kb=20")
  assert support.call("export", export.main, *common, *more) == 0
  rows = json.loads((tmp_path / "out/export.json").read_text())["artifacts"]
  assert [row["format"] for row in rows] == [
    "int8_float_ends_decode", "int8_float_ends_dense",
  ]  # fmt: skip
  assert rows[0]["arena_bytes"] <= 20 * 1024
  _check_objects(rows)
  capfd.readouterr()
  assert support.call("export", export.main, *common, "--mcu_flash_kb=4") == 4
  assert "budget not met: mcu: flash" in capfd.readouterr().err
  assert not (tmp_path / "out/mcu").exists()
