import dataclasses

import numpy as np
import pytest

from fedtiny_tff import tasks
from fedtiny_tff.models import registry
from tests.tflite_export import models
from tflite_export.android import android
from tflite_export.arm64 import arm64, arm64_setup, arm64_verify
from tflite_export.artifacts import ExportRequest, VerificationError
from tflite_export.runtimes import litert


def _request(name, input_shape, width, layers=()):
  """Returns a request for a pruned model of the product with 4 classes."""
  model = registry.get_model(name, input_shape, 4, width).build()
  models.randomise(model, seed=0)
  masks = models.prune(model, 0.1, layers)
  inputs = np.random.default_rng(1).normal(size=(12, *input_shape)).astype(np.float32)
  return ExportRequest(
    model=model,
    masks=masks,
    task=tasks.CLASSIFY,
    calibration=inputs,
    evaluation_inputs=inputs,
    evaluation_labels=np.argmax(model(inputs, training=False).numpy(), axis=1),
    class_names=("a", "b", "c", "d"),
    provenance=dataclasses.replace(models.PROVENANCE, preprocessing=None),
  )


@pytest.fixture(name="small", scope="module")
def fixture_small():
  request = models.request(*models.pruned(0.1))
  return request, android.export_android(request)


@pytest.fixture(name="pretended")
def fixture_pretended(monkeypatch):
  """This machine's LiteRT in the emulator's place; dense files take twice as long."""
  monkeypatch.setattr(arm64, "run", litert.run)
  monkeypatch.setattr(
    arm64,
    "invoke_seconds",
    lambda contents, runs: np.array([[len(c), 2.0 * len(c)] for c in contents]),
  )


def test_every_file_is_checked_and_compared_with_its_dense_twin(small, pretended):
  request, bundle = small
  said: list[str] = []
  figures = arm64_verify.verify(bundle, request, said.append)
  assert sorted(figures) == sorted(bundle.files)
  # One a file, and one for each precision that is timed.
  assert len(said) == arm64_verify.count_steps(bundle) == len(figures) + 4
  assert said[-1] == "dynamic_range: 2 files timed in turn"
  sparse = figures["android/fp32_sparse.tflite"]
  dense = figures["android/fp32_dense.tflite"]
  assert dense.emulated_seconds == len(bundle.files["android/fp32_dense.tflite"])
  assert sparse.emulated_speedup == dense.emulated_seconds / sparse.emulated_seconds
  assert dense.emulated_speedup is None
  assert (sparse.samples, sparse.argmax_agreement) == (32, 1.0)
  assert sparse.relative_error < 1e-5
  assert sparse.within_quantum is None


def test_int8_is_held_against_the_integers_of_this_machine(small, pretended):
  request, _ = small
  reference = np.full((32, 4), 1e3, np.float32)
  found = arm64_verify.check_agreement(
    "int8_dense", models.converted("int8_dense", 0.1), request, reference
  )
  assert found["within_quantum"] == 1.0
  assert found["relative_error"] == 0.0


def test_other_outputs_fail_with_the_files_path(small, pretended, monkeypatch):
  request, bundle = small
  monkeypatch.setattr(arm64, "run", lambda *given: 1.01 * litert.run(*given))
  with pytest.raises(VerificationError, match=r"^android/fp32_\w+\.tflite: on ARM64"):
    arm64_verify.verify(bundle, request, print)


def test_a_file_that_does_not_load_fails_with_its_path(small, monkeypatch):
  def refuse(*given):
    raise VerificationError("on ARM64: XNNPack delegate failed")

  request, bundle = small
  monkeypatch.setattr(arm64, "run", refuse)
  with pytest.raises(VerificationError, match=r"^android/.*: on ARM64: XNNPack"):
    arm64_verify.verify(bundle, request, print)


@pytest.mark.parametrize(("count", "kept"), [(3, 3), (200, 200), (1000, 200)])
def test_samples_are_spread_over_all_examples(small, count, kept):
  request = dataclasses.replace(
    small[0],
    evaluation_inputs=np.arange(count, dtype=np.float32)[:, np.newaxis],
    evaluation_labels=np.arange(count),
  )
  sampled = arm64_verify.sample(request)
  labels = sampled.evaluation_labels
  assert labels is not None
  assert len(set(labels)) == kept
  assert (labels[0], labels[-1]) == (0, count - 1)
  np.testing.assert_array_equal(sampled.evaluation_inputs[:, 0], labels)
  unlabelled = dataclasses.replace(request, evaluation_labels=None)
  assert arm64_verify.sample(unlabelled).evaluation_labels is None


@pytest.mark.arm64
@pytest.mark.skipif(bool(arm64_setup.problem()), reason=arm64_setup.problem())
@pytest.mark.parametrize(
  ("name", "input_shape", "width", "layers", "least_speedup"),
  [
    ("digits_cnn", (8, 8, 1), 1.0, (), 0.0),
    (
      "mobilenet_v1_sparse",
      (96, 96, 3),
      0.25,
      tuple(f"unit{number}_pointwise" for number in range(1, 14)),
      2.0,
    ),
  ],
)
def test_two_models_of_the_product_on_arm(
  name, input_shape, width, layers, least_speedup
):
  """Below the 2.5 of an idle machine, so that a busy one passes too."""
  request = _request(name, input_shape, width, layers)
  figures = arm64_verify.verify(android.export_android(request), request, print)
  sparse = figures["android/fp32_sparse.tflite"]
  assert sparse.samples == 12
  assert sparse.relative_error <= 1e-4
  assert sparse.emulated_speedup is not None
  assert sparse.emulated_speedup >= least_speedup
