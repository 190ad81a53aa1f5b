import pathlib

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.arm64 import arm64, arm64_setup
from tflite_export.artifacts import VerificationError
from tflite_export.conversion.convert import convert
from tflite_export.runtimes import litert

_NOT_SET_UP = arm64_setup.problem()


def _emulated(test):
  """Marks a test that starts the emulator."""
  return pytest.mark.arm64(
    pytest.mark.skipif(bool(_NOT_SET_UP), reason=_NOT_SET_UP)(test)
  )


def _pretend(monkeypatch, folder, script):
  """Makes an emulator of a shell script."""
  executable = folder / "qemu"
  executable.write_text(f"#!/bin/sh\n{script}\n")
  executable.chmod(0o755)
  made = arm64_setup.Emulator(executable, folder, folder, pathlib.Path.cwd())
  monkeypatch.setattr(arm64_setup, "find", lambda: made)


def test_without_emulator_make_arm64_is_named(monkeypatch):
  monkeypatch.setattr(arm64_setup, "find", lambda: None)
  monkeypatch.setattr(arm64_setup, "problem", lambda: "not set up: run `make arm64`")
  with pytest.raises(InputError, match="run `make arm64`"):
    arm64.run(b"", models.random_inputs(1))


@pytest.mark.parametrize(
  ("script", "said"),
  [
    ("echo target signal 11; kill -SEGV $$", r"crashed \(SIGSEGV\): target signal 11"),
    ("echo no module; exit 1", "exit code 1: no module"),
    ("echo odd", "gave no answer: odd"),
    ("echo refused > refusal.txt", "on ARM64: refused"),
  ],
)
def test_a_process_that_fails_is_quoted(monkeypatch, tmp_path, script, said):
  _pretend(monkeypatch, tmp_path, script)
  with pytest.raises(VerificationError, match=said):
    arm64.run(b"", models.random_inputs(1))


def test_a_process_that_hangs_is_ended(monkeypatch, tmp_path):
  _pretend(monkeypatch, tmp_path, "exec sleep 60")
  monkeypatch.setattr(arm64, "_TIMEOUT_SECONDS", 0.2)
  with pytest.raises(VerificationError, match="did not end"):
    arm64.run(b"", models.random_inputs(1))


def test_nothing_to_do_is_refused():
  with pytest.raises(InputError, match="at least one"):
    arm64.run(b"", models.random_inputs(0))
  with pytest.raises(InputError, match="runs must be at least 1, got 0"):
    arm64.invoke_seconds([b""], 0)


def test_the_runtime_is_called_emulated():
  assert arm64.runtime_name() == f"{litert.runtime_name()} (aarch64, emulated)"


@_emulated
def test_outputs_are_those_of_this_machine():
  inputs = models.random_inputs(5)
  content = models.converted("fp32_sparse")
  np.testing.assert_allclose(
    arm64.run(content, inputs), litert.run(content, inputs), rtol=1e-4, atol=1e-4
  )


@_emulated
def test_seconds_are_measured_for_each_file_and_run():
  files = [models.converted("fp32_dense"), models.converted("fp32_sparse")]
  measured = arm64.invoke_seconds(files, 3)
  assert measured.shape == (2, 3)
  assert (measured > 0).all()


@_emulated
def test_bytes_that_are_no_model_are_refused():
  with pytest.raises(VerificationError, match="on ARM64: LiteRT does not load"):
    arm64.run(b"not a model at all", models.random_inputs(1))


def _kept_dimensions(density):
  """A head that XNNPACK cannot reshape once it is on its sparse path."""
  layers = tf.keras.layers
  inputs = layers.Input((32, 32, 3))
  x = layers.ZeroPadding2D(1)(inputs)
  x = layers.Conv2D(16, 3, strides=2, activation="relu")(x)
  x = layers.Conv2D(64, 1, activation="relu", name="pointwise")(x)
  x = layers.GlobalAveragePooling2D(keepdims=True)(x)
  x = layers.Flatten()(layers.Conv2D(16, 1, name="head")(x))
  model = tf.keras.Model(inputs, x)
  models.randomise(model, seed=0)
  models.prune(model, density, ("pointwise", "head"))
  return convert(model, "fp32_sparse")


@_emulated
@pytest.mark.parametrize(("density", "loads"), [(0.1, False), (0.5, True)])
def test_a_file_that_loads_on_x86_only_is_found_out(density, loads):
  content = _kept_dimensions(density)
  inputs = np.ones((1, 32, 32, 3), np.float32)
  assert litert.run(content, inputs).shape == (1, 16)
  if loads:
    assert arm64.run(content, inputs).shape == (1, 16)
    return
  with pytest.raises(VerificationError, match="failed to reshape runtime"):
    arm64.run(content, inputs)
