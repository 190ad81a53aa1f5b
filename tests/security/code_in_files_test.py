"""Files that bring code along: it never runs, and one line says why they are refused.

Each attack is first shown to work on a reader that trusts the file; the canary is a
file that the code in it makes.
"""

import hashlib
import io
import json
import os
import sys
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.models import keras_archive, user_model
from pipelines import export
from pipelines.exports import keras_input
from pipelines.runs import model_files, state_store
from tests.pipelines import support

layers = tf.keras.layers


class _Planted:
  """An object that makes a file when it is unpickled."""

  def __init__(self, canary):
    self._canary = canary

  def __reduce__(self):
    return os.mkdir, (str(self._canary),)


@pytest.fixture(name="canary")
def fixture_canary(tmp_path):
  return tmp_path / "canary"


def _planted_layer(canary):
  """Returns a layer that, marshalled into a file, makes the canary."""
  # Defaults are marshalled along with the code.
  return layers.Lambda(lambda x, at=str(canary): (__import__("os").mkdir(at), x)[1])


def _save_model(canary, path):
  """Saves a model with a Lambda layer, then clears what building it made."""
  model = tf.keras.Sequential(
    [layers.Input((4,)), _planted_layer(canary), layers.Dense(2)]
  )
  canary.rmdir()
  model.save(path)
  return model


def _refused(work):
  with pytest.raises(InputError) as raised:
    work()
  message = str(raised.value)
  assert "\n" not in message
  return message


def _object_array(canary):
  array = np.empty(1, object)
  array[0] = _Planted(canary)
  return array


class TestKeras:
  def test_marshalled_code_of_a_keras_file(self, tmp_path, canary):
    path = tmp_path / "net.keras"
    _save_model(canary, path)
    assert not canary.exists()
    message = _refused(lambda: user_model.load(str(path), (4,), 2, 1.0))
    assert "runs Python code of its own" in message
    assert not canary.exists()
    tf.keras.models.load_model(path, safe_mode=False)
    assert canary.exists()

  def test_marshalled_code_of_a_run_directory(self, tmp_path, canary):
    (tmp_path / "model").mkdir()
    _save_model(canary, tmp_path / "model" / "model.keras")
    assert "runs Python code" in _refused(lambda: model_files.load(tmp_path / "model"))
    assert not canary.exists()

  @pytest.mark.parametrize("read", ["user", "run"])
  def test_a_module_that_the_configuration_names(
    self, tmp_path, canary, monkeypatch, read
  ):
    """Keras 2.14 imports it in safe mode too."""
    (tmp_path / "planted_module.py").write_text(
      f"import os\nos.mkdir({str(canary)!r})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "planted_module", raising=False)
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "model.keras"
    tf.keras.Sequential([layers.Input((4,)), layers.Dense(2, name="d")]).save(path)
    with zipfile.ZipFile(path) as archive:
      members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["module"] = "planted_module"
    with zipfile.ZipFile(path, "w") as archive:
      for name, content in members.items():
        text = json.dumps(config).encode()
        archive.writestr(name, text if name == "config.json" else content)
    if read == "user":
      _refused(lambda: keras_archive.read(path))
    else:
      _refused(lambda: model_files.load(folder))
    assert not canary.exists()
    with pytest.raises(TypeError, match="Could not locate"):
      tf.keras.models.load_model(path, safe_mode=True)
    assert canary.exists()

  @pytest.mark.filterwarnings("ignore::UserWarning")
  def test_marshalled_code_of_an_old_file(self, tmp_path, canary, capsys):
    path = tmp_path / "net.h5"
    _save_model(canary, path)
    message = _refused(lambda: user_model.load(str(path), (4,), 2, 1.0))
    assert "only the Keras format is read" in message
    arguments = [f"--keras_model={path}", f"--output_dir={tmp_path / 'out'}"]
    assert support.call("export", export.main, *arguments) == 2
    assert "only the Keras format is read" in capsys.readouterr().err
    # Renamed, it is no archive.
    path.rename(tmp_path / "net.keras")
    assert "no Keras file" in _refused(
      lambda: keras_archive.read(tmp_path / "net.keras")
    )
    assert not canary.exists()

  def test_a_saved_model_that_writes_a_file(self, tmp_path, canary, capsys):
    class Writer(tf.Module):
      @tf.function(input_signature=[tf.TensorSpec([None, 4])])
      def __call__(self, x):
        tf.io.write_file(str(canary), "made")
        return x

    folder = tmp_path / "saved"
    tf.saved_model.save(Writer(), str(folder))
    message = _refused(lambda: user_model.load(str(folder), (4,), 2, 1.0))
    assert "only the Keras format is read" in message
    arguments = [f"--keras_model={folder}", f"--output_dir={tmp_path / 'out'}"]
    assert support.call("export", export.main, *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not canary.exists()
    tf.saved_model.load(str(folder))(tf.zeros((1, 4)))
    assert canary.exists()


class TestWeightsOfAKerasFile:
  """HDF5 can lead anywhere; Keras follows."""

  @pytest.fixture(name="path", scope="class")
  def fixture_path(self, tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "net.keras"
    model = [layers.Input((4,)), layers.Dense(4, use_bias=False, name="d")]
    tf.keras.Sequential(model).save(path)
    return path

  def _changed(self, path, tmp_path, change, compression=zipfile.ZIP_STORED):
    """Writes a copy of an archive whose kernel `change` replaces."""
    with zipfile.ZipFile(path) as archive:
      members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "a") as file:
      (layer,) = file["_layer_checkpoint_dependencies"].values()
      change(layer["vars"])
    members["model.weights.h5"] = weights.getvalue()
    copy = tmp_path / "changed.keras"
    with zipfile.ZipFile(copy, "w", compression) as archive:
      for name, content in members.items():
        archive.writestr(name, content)
    return copy

  def test_unchanged_it_is_read(self, path, tmp_path):
    assert keras_archive.read(self._changed(path, tmp_path, lambda group: None))

  def test_values_of_a_private_file_are_not_read(self, path, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(64)))

    def change(group):
      del group["0"]
      group.create_dataset("0", (4, 4), "<f4", external=[(str(secret), 0, 64)])

    copy = self._changed(path, tmp_path, change)
    (kernel,) = tf.keras.models.load_model(copy).get_weights()
    assert kernel.tobytes() == secret.read_bytes()
    message = _refused(lambda: keras_archive.read(copy))
    assert "its weights lie in another file" in message

  @pytest.mark.parametrize(
    ("target", "said"),
    [
      (lambda: h5py.ExternalLink("other.h5", "/x"), "may lead to another file"),
      (lambda: h5py.SoftLink("/vars"), "may lead to another file"),
      (lambda: np.zeros((4, 4), "S3"), "other than numbers"),
    ],
  )
  def test_links_and_other_kinds(self, path, tmp_path, target, said):
    def change(group):
      del group["0"]
      group["0"] = target()

    copy = self._changed(path, tmp_path, change)
    assert said in _refused(lambda: keras_archive.read(copy))

  def test_a_circle_of_groups_ends(self, path, tmp_path):
    def change(group):
      group["again"] = group

    copy = self._changed(path, tmp_path, change)
    assert "in a circle" in _refused(lambda: keras_archive.read(copy))

  def test_terabytes_that_are_claimed(self, path, tmp_path):
    def change(group):
      del group["0"]
      group.create_dataset("0", (1 << 20, 1 << 20), "<f4", chunks=(1 << 10, 1 << 10))

    copy = self._changed(path, tmp_path, change)
    assert "its weights claim 4,398,046,511,104 bytes" in _refused(
      lambda: keras_archive.read(copy)
    )

  def test_a_compressed_archive(self, path, tmp_path):
    copy = self._changed(path, tmp_path, lambda group: None, zipfile.ZIP_DEFLATED)
    assert "compressed or repeated members" in _refused(
      lambda: keras_archive.read(copy)
    )

  def test_a_member_twice(self, path, tmp_path):
    copy = self._changed(path, tmp_path, lambda group: None)
    with zipfile.ZipFile(copy, "a") as archive, pytest.warns(UserWarning):
      archive.writestr("config.json", "{}")
    assert "compressed or repeated members" in _refused(
      lambda: keras_archive.read(copy)
    )


def test_words_of_a_private_file_are_not_read(tmp_path):
  """A vocabulary may be a path, or a URL, in a layer's configuration."""
  secret = tmp_path / "secret"
  secret.write_text("11\n12\n")
  path = tmp_path / "net.keras"
  numbers = layers.Input((1,), dtype=tf.int64)
  tf.keras.Sequential([numbers, layers.IntegerLookup(vocabulary=[1, 2])]).save(path)
  with zipfile.ZipFile(path) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  config = json.loads(members["config.json"])
  config["config"]["layers"][-1]["config"]["vocabulary"] = str(secret)
  members["config.json"] = json.dumps(config).encode()
  with zipfile.ZipFile(path, "w") as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  loaded = tf.keras.models.load_model(path, safe_mode=True)
  assert loaded.layers[-1].get_vocabulary()[-2:] == [11, 12]
  assert "may read its words from any file" in _refused(
    lambda: keras_archive.read(path)
  )


class TestNumPy:
  def test_the_attack_works_on_a_trusting_reader(self, tmp_path, canary):
    np.save(tmp_path / "x.npy", _object_array(canary))
    assert not canary.exists()
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert canary.exists()

  def test_examples_to_calibrate_with(self, tmp_path, canary):
    path = tmp_path / "d.npz"
    np.savez(path, x=_object_array(canary))
    model = tf.keras.Sequential([layers.Input((4,)), layers.Dense(2)])
    assert "without objects" in _refused(lambda: keras_input.read_data(path, model))
    assert not canary.exists()

  def test_masks_of_a_run_directory(self, tmp_path, canary):
    model = tf.keras.Sequential([layers.Input((4,)), layers.Dense(2, name="d")])
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "masks.npz", d=_object_array(canary))
    assert "cannot be read" in _refused(lambda: model_files.load(tmp_path))
    assert not canary.exists()

  def test_a_state_with_a_right_checksum(self, tmp_path, canary, caplog):
    content = state_store.encode({"weights": _object_array(canary)}, {})
    (tmp_path / "round_000001.state").write_bytes(content)
    assert state_store.StateStore(tmp_path).load_latest() is None
    assert "is damaged" in caplog.text
    assert not canary.exists()

  @pytest.mark.parametrize("body", [b"", b"no archive", b"PK\x03\x04" + bytes(40)])
  def test_no_state_though_its_checksum_is_right(self, tmp_path, caplog, body):
    content = hashlib.sha256(body).digest() + body
    (tmp_path / "round_000001.state").write_bytes(content)
    assert state_store.StateStore(tmp_path).load_latest() is None
    assert "is damaged" in caplog.text
