"""Exports from Python: files, verification and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

import tflite_export
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export import targets
from tflite_export.runtimes import litert

INPUTS = models.random_inputs(12)
LABELS = np.arange(12) % models.NUM_CLASSES


@pytest.fixture(name="pruned", scope="module")
def fixture_pruned():
  model = models.small_classifier()
  return model, models.prune(model, 0.2)


@pytest.fixture(name="android", scope="module")
def fixture_android(pruned):
  model, masks = pruned
  about = tflite_export.About(
    name="shapes",
    class_names=("a", "b", "c", "d"),
    preprocessing=Preprocessing(1 / 255, (0.5,), (0.25,)),
    feature_type="uint8",
  )
  return tflite_export.export_android(
    model, INPUTS, labels=LABELS, masks=masks, percentile=99.9, about=about
  )


def test_android_files_are_the_models(pruned, android):
  model, _ = pruned
  row = android.artifact("fp32_sparse")
  outputs = litert.run(android["android/fp32_sparse.tflite"], INPUTS)
  np.testing.assert_allclose(outputs, model(INPUTS), atol=1e-4)
  assert row.bytes == len(android[row.path]) < row.dense_bytes
  hits = np.mean(np.argmax(model(INPUTS), 1) == LABELS)
  assert row.accuracy == pytest.approx(hits)
  assert len(android.artifacts) == 8
  assert android["android/labels.txt"] == b"a\nb\nc\nd\n"
  declared = json.loads(android["android/preprocessing.json"])
  assert declared["raw"] == {"shape": [16, 16, 3], "type": "uint8"}
  assert {"android/ShapesModel.kt", "android/model_card.md"} < set(android.files)


def test_the_summary_names_every_file(android):
  lines = str(android).splitlines()
  assert lines[0].split()[:2] == ["file", "bytes"]
  assert [line.split()[0] for line in lines[1:]] == [x.path for x in android.artifacts]
  assert repr(android) == str(android)
  shown = android._repr_html_()
  assert shown.count("<tr>") == 1 + len(android.artifacts)
  with pytest.raises(KeyError):
    android.artifact("int4")


def test_files_are_written_and_replaced(android, tmp_path):
  (tmp_path / "android").mkdir()
  (tmp_path / "android" / "labels.txt").write_text("old")
  (tmp_path / "android" / "mine.txt").write_text("kept")
  assert android.write(tmp_path) == tmp_path
  written = {
    path.relative_to(tmp_path).as_posix(): path.read_bytes()
    for path in tmp_path.rglob("*")
    if path.is_file()
  }
  assert written == {**android.files, "android/mine.txt": b"kept"}
  with pytest.raises(InputError, match="cannot be written"):
    android.write(tmp_path / "android" / "mine.txt")


def test_mcu_files_keep_within_a_budget(pruned):
  model, _ = pruned
  before = model.get_weights()
  free = tflite_export.export_mcu(model, INPUTS)
  row = free.artifact("int8_decode")
  assert row.accuracy is None
  assert row.arena_bytes is not None
  assert "mcu/model_data.cc" in free.files
  for old, new in zip(before, model.get_weights(), strict=True):
    np.testing.assert_array_equal(old, new)
  bounded = tflite_export.export_mcu(
    model, INPUTS, ram_bytes=row.arena_bytes, flash_bytes=row.bytes + 4096
  )
  assert bounded.files["mcu/model.tflite"] == free.files["mcu/model.tflite"]
  with pytest.raises(tflite_export.BudgetError, match=r"flash .* 1,000 allowed"):
    tflite_export.export_mcu(model, INPUTS, flash_bytes=1000)


def test_what_fails_verification_is_not_handed_out(pruned, monkeypatch):
  def wrong(request):
    raise tflite_export.VerificationError("other outputs")

  monkeypatch.setitem(targets.TARGETS, "mcu", wrong)
  with pytest.raises(tflite_export.VerificationError, match="other outputs"):
    tflite_export.export_mcu(pruned[0], INPUTS)


def _masks_of_another_model(masks):
  return {"elsewhere": next(iter(masks.values()))}


def _masks_that_prune_more(masks):
  return {name: np.zeros_like(mask) for name, mask in masks.items()}


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda m, k: {"model": 3}, "model is int"),
    (lambda m, k: {"representative": INPUTS[:, :8]}, "representative is float32"),
    (lambda m, k: {"representative": INPUTS[:0]}, "with N > 0"),
    (lambda m, k: {"labels": LABELS[:3]}, r"labels is int64 \[3\]"),
    (lambda m, k: {"labels": LABELS + 1}, "labels go from 0 to 3"),
    (lambda m, k: {"masks": _masks_of_another_model(k)}, "'elsewhere' of shape"),
    (lambda m, k: {"masks": _masks_that_prune_more(k)}, "pruned and not zero"),
    (lambda m, k: {"percentile": 3.0}, r"in \(50, 100\], got 3"),
    (
      lambda m, k: {"about": tflite_export.About(class_names=("a",))},
      "1 class_names for 4 outputs",
    ),
    (
      lambda m, k: {"about": tflite_export.About(task="reconstruct")},
      "name another task",
    ),
  ],
)
def test_what_does_not_fit(pruned, change, said):
  model, masks = pruned
  given = {"model": model, "representative": INPUTS, **change(model, masks)}
  with pytest.raises(InputError, match=said):
    tflite_export.export_android(**given)


@pytest.mark.parametrize(
  ("options", "said"),
  [
    ({"activation_bits": 4}, "8 or 16, got 4"),
    ({"flash_bytes": 0}, "flash_bytes must be at least 1"),
    ({"ram_bytes": -3}, "got -3"),
  ],
)
def test_numbers_of_a_microcontroller(pruned, options, said):
  with pytest.raises(InputError, match=said):
    tflite_export.export_mcu(pruned[0], INPUTS, **options)


def test_a_sequential_model_and_its_zeros_are_enough():
  model = tf.keras.Sequential(
    [tf.keras.Input((6,)), tf.keras.layers.Dense(8), tf.keras.layers.Dense(3)]
  )
  kernel = model.layers[0].kernel
  kernel.assign(tf.where(tf.range(8) < 4, kernel, 0.0))
  found = tflite_export.export_mcu(model, models.random_inputs(9)[:, :6, 0, 0])
  assert found.artifact("int8_decode").density == pytest.approx(0.5, abs=0.05)


def test_what_is_known_is_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    tflite_export.About().name = "other"  # type: ignore[misc]
