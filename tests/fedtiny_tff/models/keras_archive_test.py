"""A `.keras` file is read without running anything it brings along."""

import json
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.models import keras_archive

layers = tf.keras.layers


def _model(*inner):
  return tf.keras.Sequential(
    [layers.Input((4, 4, 1)), layers.Flatten(), *inner, layers.Dense(3)]
  )


@pytest.fixture(name="file")
def fixture_file(tmp_path):
  path = tmp_path / "net.keras"
  _model().save(path)
  return path


def _rewrite(path, members):
  """Writes the archive anew with some members changed; None leaves one out."""
  with zipfile.ZipFile(path) as archive:
    old = {name: archive.read(name) for name in archive.namelist()}
  with zipfile.ZipFile(path, "w") as archive:
    for name, content in {**old, **members}.items():
      if content is not None:
        archive.writestr(name, content)


def _config(path):
  with zipfile.ZipFile(path) as archive:
    return json.loads(archive.read("config.json"))


def _refusal(path):
  with pytest.raises(InputError) as raised:
    keras_archive.read(path)
  message = str(raised.value)
  assert "\n" not in message
  assert str(path) in message
  return message


def test_a_model_is_read_with_its_weights(file):
  model = keras_archive.read(file)
  again = tf.keras.models.load_model(file)
  for weight, other in zip(model.get_weights(), again.get_weights(), strict=True):
    np.testing.assert_array_equal(weight, other)


def test_a_loss_of_its_own_is_not_needed(tmp_path):
  model = _model()
  model.compile("adam", loss=lambda wanted, given: given - wanted)
  model.save(tmp_path / "net.keras")
  assert keras_archive.read(tmp_path / "net.keras").count_params() == 16 * 3 + 3


@pytest.mark.parametrize(
  "inner",
  [
    layers.Dense(2, activation=tf.nn.gelu, kernel_regularizer="l2"),
    layers.Dense(2, activation=layers.ReLU(6.0), kernel_constraint="max_norm"),
    layers.Dense(2, bias_initializer=tf.keras.initializers.Constant(0.5)),
    layers.TimeDistributed(layers.Dense(2)),
  ],
)
def test_keras_own_parts_are_admitted(tmp_path, inner):
  reshape = (layers.Reshape((2, 8)), layers.Flatten())
  _model(reshape[0], inner, reshape[1]).save(tmp_path / "net.keras")
  keras_archive.read(tmp_path / "net.keras")


class _Twice(tf.keras.layers.Layer):
  def call(self, inputs):
    return 2 * inputs


def _identity(x):
  return x


@pytest.mark.parametrize(
  ("inner", "said"),
  [
    (layers.Lambda(lambda x: x, name="odd"), "'odd' (Lambda) runs Python code of its"),
    (_Twice(name="odd"), "'odd' (_Twice) needs _Twice, which is not Keras's own"),
    (layers.Dense(2, activation=_identity, name="odd"), "'odd' (Dense) uses the func"),
  ],
)
def test_code_of_its_own_is_refused(tmp_path, inner, said):
  _model(inner).save(tmp_path / "net.keras")
  assert said in _refusal(tmp_path / "net.keras")


def test_an_operation_between_layers_is_refused(tmp_path):
  inputs = tf.keras.Input((4,))
  model = tf.keras.Model(inputs, layers.Dense(3)(inputs + 1.0))
  model.save(tmp_path / "net.keras")
  assert "(TFOpLambda) is a TensorFlow operation" in _refusal(tmp_path / "net.keras")


def test_a_subclassed_model_is_refused(tmp_path):
  class Net(tf.keras.Model):
    def __init__(self):
      super().__init__()
      self.dense = layers.Dense(3)

    def call(self, inputs):
      return self.dense(inputs)

  model = Net()
  model(tf.zeros((1, 4)))
  model.save(tmp_path / "net.keras")
  assert "is a subclassed model (Net)" in _refusal(tmp_path / "net.keras")


@pytest.mark.parametrize(
  "hidden",
  [
    {"module": "hostile", "class_name": "Gadget", "config": {}},
    {"module": "keras.utils", "class_name": "function", "config": "get_file"},
    {"module": "keras.layers", "class_name": "x.y", "config": {}},
    {"module": "keras.layers", "class_name": "No", "registered_name": "Lambda"},
    {"class_name": "__lambda__", "config": {"value": "4wA="}},
    {"class_name": "Lambda", "config": {}},
  ],
)
def test_code_is_found_however_deep_and_never_imported(
  file, tmp_path, monkeypatch, hidden
):
  (tmp_path / "hostile.py").write_text("raise SystemExit('this code ran')")
  monkeypatch.syspath_prepend(tmp_path)
  config = _config(file)
  config["config"]["layers"][-1]["config"]["kernel_initializer"]["config"] = {
    "deep": [{"deeper": hidden}]
  }
  _rewrite(file, {"config.json": json.dumps(config)})
  assert "(Dense)" in _refusal(file)


@pytest.mark.parametrize(
  "members",
  [
    {"model.weights.npz": b"", "model.weights.h5": None},
    {"assets/vocabulary.txt": b"a"},
    {"metadata.json": None},
  ],
)
def test_only_the_three_members_are_read(file, members):
  """Keras unpickles weights in NumPy's format."""
  _rewrite(file, members)
  assert f"no plain Keras archive ({sorted(members)[0]}" in _refusal(file)


def test_a_file_of_keras_3_is_named_so(file):
  _rewrite(file, {"metadata.json": '{"keras_version": "3.4.1"}'})
  assert "was saved by Keras 3.4.1; save it again" in _refusal(file)


@pytest.mark.parametrize(
  "damage",
  [
    lambda content: content[:1000],
    lambda content: content[:-1],
    lambda content: b"",
    lambda content: b"\x89HDF\r\n\x1a\n" + content[8:40],
    lambda content: content.replace(b"keras_version", b"teras_version"),
    lambda content: content[:3000] + bytes(64) + content[3064:],
  ],
)
def test_a_damaged_file_is_refused(file, damage):
  file.write_bytes(damage(file.read_bytes()))
  assert "save it again with model.save('FILE.keras')" in _refusal(file)


@pytest.mark.parametrize(
  "config", ["", "[]", "{}", '{"class_name": "Sequential", "config": {"layers": 3}}']
)
def test_a_damaged_configuration_is_refused(file, config):
  _rewrite(file, {"config.json": config})
  _refusal(file)


def test_a_missing_file_is_named(tmp_path):
  assert _refusal(tmp_path / "none.keras").endswith(
    "none.keras: not found; check the path"
  )


def test_a_folder_is_no_file(tmp_path):
  (tmp_path / "net.keras").mkdir()
  assert _refusal(tmp_path / "net.keras").endswith(
    "net.keras: not found; check the path"
  )


def test_weights_of_another_model_are_refused(file, tmp_path):
  other = tmp_path / "other.keras"
  _model(layers.Dense(5)).save(other)
  with zipfile.ZipFile(other) as archive:
    _rewrite(file, {"model.weights.h5": archive.read("model.weights.h5")})
  assert "cannot be loaded" in _refusal(file)
