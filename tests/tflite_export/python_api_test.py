"""Exports from Python: files, verification and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

import tflite_export
from fedtiny_tff.data.extraction import declare
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export import given_model, targets
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


def _words(kind):
  return np.array(["cat", "dog"] * 6).astype(kind)


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
    (
      lambda m, k: {"about": tflite_export.About(task="Classify")},
      "task must be one of classify, reconstruct, got 'Classify'; did you mean classify",
    ),
    (lambda m, k: {"labels": _words(str)}, r"labels is <U3 \[12\]; needed is int"),
    (lambda m, k: {"labels": _words(bytes)}, r"labels is \|S3 \[12\]; needed is int"),
    (
      lambda m, k: {"labels": _words(object)},
      r"labels is object \[12\]; needed is int",
    ),
  ],
)
def test_what_does_not_fit(pruned, change, said):
  model, masks = pruned
  given = {"model": model, "representative": INPUTS, **change(model, masks)}
  with pytest.raises(InputError, match=said):
    tflite_export.export_android(**given)


@pytest.mark.parametrize(
  ("preprocessing", "said"),
  [
    (Preprocessing(1.0, (0.5,) * 2, (0.25,) * 2), "2 numbers for .* give one, or 3"),
    (
      Preprocessing(1.0, (0.5,), (0.25,), declare("log_mel", [16_000])),
      r"log_mel makes \[49, 40, 1\] of raw examples, the model takes \[16, 16, 3\]",
    ),
    (
      Preprocessing(1.0, (0.5,), (0.25,), Resize(16, 8)),
      r"resize makes \[16, 8, 3\] of raw examples",
    ),
    (
      Preprocessing(1.0, (0.5,), (0.25,), Resize(16, 16, grey=True)),
      r"resize makes \[16, 16, 1\] of raw examples",
    ),
  ],
)
@pytest.mark.parametrize("target", ["android", "mcu"])
def test_preprocessing_that_makes_other_inputs(pruned, target, preprocessing, said):
  export = getattr(tflite_export, f"export_{target}")
  about = tflite_export.About(preprocessing=preprocessing)
  with pytest.raises(InputError, match=said):
    export(pruned[0], INPUTS, about=about)


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


def _tower(name, seed):
  """One of two models whose layers have the same names, and other zeros."""
  layers = tf.keras.layers
  inputs = layers.Input((8, 8, 3))
  x = layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
  model = tf.keras.Model(inputs, layers.DepthwiseConv2D(3, name="each")(x), name=name)
  models.randomise(model, seed)
  models.prune(model, 0.3, ("conv", "each"), seed)
  return model


def _two_towers():
  """They stand before a layer that has their layers' name as well."""
  layers = tf.keras.layers
  inputs = layers.Input((8, 8, 3))
  x = layers.Concatenate()([_tower("left", 1)(inputs), _tower("right", 2)(inputs)])
  x = layers.Conv2D(8, 3, activation="relu", name="conv")(x)
  x = layers.Dense(3, name="end")(layers.Flatten()(x))
  model = tf.keras.Model(inputs, x, name="net")
  models.prune(model, 0.3, ("conv",), 3)
  return model


@pytest.mark.parametrize("target", ["android", "mcu"])
def test_layers_of_models_within_a_model_may_share_names(target):
  model = _two_towers()
  layers = ("left/conv", "left/each", "right/conv", "right/each", "conv")
  found = given_model.masks_of_zeros(model)
  assert list(found) == [f"net/{name}" for name in layers]
  assert not np.array_equal(found["net/left/conv"], found["net/right/conv"])
  x = models.random_inputs(12)[:, :8, :8]
  export = getattr(tflite_export, f"export_{target}")
  made = export(model, x)
  kept = sum(mask.sum() for mask in found.values())
  density = kept / sum(mask.size for mask in found.values())
  assert made.artifacts[0].density == pytest.approx(density, abs=0.02)
  # The same masks, given.
  short = {name.removeprefix("net/"): mask for name, mask in found.items()}
  again = export(model, x, masks=short)
  assert again.artifacts == made.artifacts


def test_masks_that_are_found_may_be_given():
  model = _tower("net", 1)
  x = tf.keras.layers.Flatten()(model.outputs[0])
  model = tf.keras.Model(model.inputs, tf.keras.layers.Dense(3)(x))
  found = given_model.masks_of_zeros(model)
  assert list(found) == ["conv", "each"]
  x = models.random_inputs(12)[:, :8, :8]
  given = tflite_export.export_android(model, x, masks=found)
  assert given.artifacts == tflite_export.export_android(model, x).artifacts


@pytest.mark.parametrize(
  ("activation", "meant"),
  [("sigmoid", "probabilities"), (None, "logits"), ("softmax", "logits")],
)
def test_a_single_output_is_no_choice_of_a_class(activation, meant):
  layers = tf.keras.layers
  model = tf.keras.Sequential(
    [tf.keras.Input((6,)), layers.Dense(8), layers.Dense(1, activation=activation)]
  )
  x = models.random_inputs(9)[:, :6, 0, 0]
  made = tflite_export.export_android(model, x)
  assert {row.argmax_agreement for row in made.artifacts} == {None}
  card = made["android/model_card.md"].decode()
  assert "how good the files are is not known" in card
  (kotlin,) = (made[name].decode() for name in made.files if name.endswith(".kt"))
  assert f'OUTPUT_NAME = "{meant}"' in kotlin
  assert " probabilities(" not in kotlin
  firmware = tflite_export.export_mcu(model, x)
  assert b"kClassNames" not in firmware["mcu/main_functions.cc"]
  assert b"not known (a single output)" in firmware["mcu/README.md"]


def test_names_that_are_no_text_are_refused_for_firmware(pruned):
  about = tflite_export.About(class_names=("a", "b", "c", "\ud800"))
  with pytest.raises(InputError, match="is not valid text; rename it"):
    tflite_export.export_mcu(pruned[0], INPUTS, about=about)


def test_what_is_known_is_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    tflite_export.About().name = "other"  # type: ignore[misc]
