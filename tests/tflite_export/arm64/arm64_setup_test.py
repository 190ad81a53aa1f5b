import importlib.metadata
import json

import pytest

from tests.tflite_export import processes
from tflite_export.arm64 import arm64_setup

VERSION = importlib.metadata.version("ai-edge-litert")


def _marked(folder, **changes):
  marker = {
    "layout": arm64_setup.LAYOUT,
    "wheels": {"ai-edge-litert": VERSION},
    "emulator": "qemu",
  }
  (folder / arm64_setup.MARKER).write_text(json.dumps(marker | changes))
  (folder / "qemu").write_text("#!/bin/sh\n")
  (folder / "qemu").chmod(0o755)


def test_a_prepared_folder_is_found(tmp_path):
  _marked(tmp_path)
  emulator = arm64_setup.find(tmp_path)
  assert arm64_setup.problem(tmp_path) == ""
  assert emulator is not None
  command = emulator.command("package.module", "word")
  assert command[0] == str(tmp_path / "qemu")
  assert command[-3:] == ["-m", "package.module", "word"]
  assert emulator.environment("/tmp/x")["TMPDIR"] == "/tmp/x"


@pytest.mark.parametrize(
  "content", [None, "", "[]", pytest.param("[" * 100_000, id="deep"), '{"layout": 0}']
)
def test_without_a_finished_folder_make_arm64_is_named(tmp_path, content):
  if content is not None:
    (tmp_path / arm64_setup.MARKER).write_text(content)
  assert arm64_setup.find(tmp_path) is None
  assert arm64_setup.problem(tmp_path).endswith("not set up: run `make arm64`")


def test_another_runtime_than_the_installed_one_is_refused(tmp_path):
  _marked(tmp_path, wheels={"ai-edge-litert": "1.0.0"})
  assert arm64_setup.find(tmp_path) is None
  assert f"1.0.0, installed is {VERSION}" in arm64_setup.problem(tmp_path)


def test_an_emulator_that_was_removed_is_missed(tmp_path):
  _marked(tmp_path)
  (tmp_path / "qemu").unlink()
  assert "is gone: run `make arm64`" in arm64_setup.problem(tmp_path)


def test_asking_is_light():
  assert not processes.loaded_by(
    ["tflite_export.arm64.arm64_setup"], ("numpy", "tensorflow", "ai_edge_litert")
  )


def test_the_emulated_half_needs_numpy_and_litert_only():
  loaded = processes.loaded_by(
    ["tflite_export.arm64.arm64_child"],
    ("tensorflow", "flatbuffers", "ml_dtypes", "tflite_"),
  )
  assert {name.split(".")[0] for name in loaded} == {"tflite_export"}
