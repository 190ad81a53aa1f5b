"""The final model is read back exactly, or refused."""

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.errors import InputError
from fedtiny_tff.models import registry
from pipelines.runs import model_files
from tests.pipelines import support
from tests.tflite_export import models

MASKS_OF_DS_CNN = {"logits": np.ones((16, 4), bool)}
MASKS = {"hidden": np.array([[True, False], [False, True], [True, True]])}


@pytest.fixture(name="model", scope="module")
def fixture_model():
  inputs = tf.keras.Input((3,))
  hidden = tf.keras.layers.Dense(2, name="hidden")(inputs)
  return tf.keras.Model(inputs, tf.keras.layers.BatchNormalization(name="norm")(hidden))


def test_model_and_masks_are_read_back(model, tmp_path):
  model_files.save(tmp_path / "model", model, MASKS, tasks.CLASSIFY)
  again, masks = model_files.load(tmp_path / "model")
  for before, after in zip(model.get_weights(), again.get_weights(), strict=True):
    np.testing.assert_array_equal(before, after)
  assert masks.keys() == MASKS.keys()
  assert masks["hidden"].dtype == bool
  np.testing.assert_array_equal(masks["hidden"], MASKS["hidden"])


def test_channels_are_equalised_when_read(tmp_path):
  model = registry.get_model("ds_cnn", (16, 8, 1), 4, 0.25).build()
  models.randomise(model, 0)
  model_files.save(tmp_path / "model", model, MASKS_OF_DS_CNN, tasks.CLASSIFY)
  again, _ = model_files.load(tmp_path / "model")
  rows = np.random.default_rng(0).normal(size=(3, 16, 8, 1)).astype(np.float32)
  np.testing.assert_array_equal(
    again(rows, training=False), model(rows, training=False)
  )
  before, after = (
    each.get_layer("stem_batch_norm").gamma.numpy() for each in (model, again)
  )
  factors = after / before
  assert {1.0, 2.0} <= set(factors)


def test_saving_replaces_the_folder(model, tmp_path):
  (tmp_path / "model").mkdir()
  (tmp_path / "model" / "old").write_text("")
  model_files.save(tmp_path / "model", model, MASKS, tasks.CLASSIFY)
  found = {name for name in support.snapshot(tmp_path) if "/" in name}
  assert found == {"model/model.keras", "model/masks.npz", "model/task.txt"}


def test_masks_repeat_byte_for_byte(model, tmp_path):
  for name in ("a", "b"):
    model_files.save(tmp_path / name, model, MASKS, tasks.CLASSIFY)
  first, second = ((tmp_path / name / "masks.npz").read_bytes() for name in "ab")
  assert first == second


def test_a_failed_save_leaves_the_old_model(model, tmp_path, monkeypatch):
  model_files.save(tmp_path / "model", model, MASKS, tasks.CLASSIFY)
  before = support.snapshot(tmp_path)

  def fail(*arguments, **named):
    raise OSError("disk full")

  monkeypatch.setattr(np, "savez_compressed", fail)
  with pytest.raises(OSError, match="disk full"):
    model_files.save(tmp_path / "model", model, MASKS, tasks.CLASSIFY)
  assert support.snapshot(tmp_path) == before


def test_a_missing_model_tells_to_train(tmp_path):
  with pytest.raises(InputError, match=r"not found; train the run first"):
    model_files.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["model.keras", "masks.npz"])
@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_damaged_file_is_named(model, tmp_path, name, content):
  model_files.save(tmp_path / "model", model, MASKS, tasks.CLASSIFY)
  (tmp_path / "model" / name).write_bytes(content)
  with pytest.raises(InputError, match="cannot be read") as caught:
    model_files.load(tmp_path / "model")
  assert "\n" not in str(caught.value)


def test_missing_masks_are_refused(model, tmp_path):
  model_files.save(tmp_path / "model", model, MASKS, tasks.CLASSIFY)
  (tmp_path / "model" / "masks.npz").unlink()
  with pytest.raises(InputError, match="cannot be read"):
    model_files.load(tmp_path / "model")


def test_pickled_masks_are_refused(model, tmp_path):
  model_files.save(tmp_path / "model", model, MASKS, tasks.CLASSIFY)
  masks = np.array([{"code": "runs"}], object)
  np.savez(tmp_path / "model" / "masks.npz", hidden=masks)
  with pytest.raises(InputError, match="cannot be read"):
    model_files.load(tmp_path / "model")


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=lambda task: task.name)
def test_the_task_is_read_back(model, tmp_path, task):
  model_files.save(tmp_path / "model", model, MASKS, task)
  assert model_files.read_task(tmp_path / "model") is task


@pytest.mark.parametrize(
  ("content", "said"),
  [
    (None, "not found; train"),
    (b"", "got ''"),
    (b"sing\n", "got 'sing'"),
    (b"\xff", "got"),
  ],
)
def test_a_damaged_task_is_refused(tmp_path, content, said):
  if content is not None:
    (tmp_path / "task.txt").write_bytes(content)
  with pytest.raises(InputError, match=f"task.txt: .*{said}"):
    model_files.read_task(tmp_path)
