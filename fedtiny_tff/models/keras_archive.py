"""Reads a `.keras` file without running anything that it brings along.

Keras 2.14 imports whatever module the file's configuration names, also in its safe
mode, unpickles weights kept as `.npz`, reads weights from any other file that theirs
names, and takes a file that is no archive for one of the old formats. So the archive is
inspected before Keras sees it.
"""

import json
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from fedtiny_tff.errors import InputError
from fedtiny_tff.models import keras_weights

_CONFIG = "config.json"
_WEIGHTS = "model.weights.h5"
_MEMBERS = {_CONFIG, "metadata.json", _WEIGHTS}
_KERAS_MAJOR = "2."
_MODELS = ("Sequential", "Functional")
# Where Keras's own layers, initialisers and the like say they come from.
_MODULES = (
  "keras", "keras.layers", "keras.initializers", "keras.regularizers",
  "keras.constraints", "keras.mixed_precision", "keras.src.engine.functional",
  "keras.src.engine.sequential",
)  # fmt: skip
# Values that Keras writes as objects.
_VALUES = ("__tensor__", "__numpy__")
_OPERATIONS = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod")
# What is refused by its class, and why.
_REFUSED: dict[str, str] = {
  **dict.fromkeys(
    ("Lambda", "__lambda__"), "runs Python code of its own; use a Keras layer instead"
  ),
  **dict.fromkeys(
    _OPERATIONS,
    "is a TensorFlow operation between layers; use a Keras layer such as Add, "
    "Multiply, Reshape or Rescaling",
  ),
  **dict.fromkeys(
    ("IntegerLookup", "StringLookup", "TextVectorization"),
    "may read its words from any file; look them up before the model",
  ),
  "PruneLowMagnitude": (
    "is tfmot's pruning wrapper; take it off with "
    "tfmot.sparsity.keras.strip_pruning(model) before saving"
  ),
}
_MEND = "save it again with model.save('FILE.keras') in TensorFlow 2.14"


def read(path: pathlib.Path) -> tf.keras.Model:
  """Loads a model.

  Raises:
    InputError: When the file is missing or damaged, or needs code of its own.
  """
  if not path.is_file():
    raise InputError(f"model file {path}: not found; check the path")
  check_config(str(path), _read_config(path))
  try:
    return tf.keras.models.load_model(path, compile=False, safe_mode=True)
  # Keras, h5py and zipfile raise whatever they like.
  except Exception as error:
    raise InputError(
      f"model file {path}: cannot be loaded ({_first_line(error)}); {_MEND}"
    ) from error


def _first_line(error: Exception) -> str:
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _read_config(path: pathlib.Path) -> dict[str, Any]:
  """Checks the archive's members and returns the model's configuration."""
  try:
    with zipfile.ZipFile(path) as archive:
      _check_members(path, archive)
      version = json.loads(archive.read("metadata.json"))["keras_version"]
      config = dict(json.loads(archive.read(_CONFIG)))
      keras_weights.check(archive.read(_WEIGHTS))
  except InputError:
    raise
  except keras_weights.OddWeights as error:
    raise InputError(f"model file {path}: {error}; {_MEND}") from error
  # A damaged archive ends in errors of zlib, struct, json and others.
  except Exception as error:
    raise InputError(
      f"model file {path}: is truncated or no Keras file ({_first_line(error)}); {_MEND}"
    ) from error
  if not str(version).startswith(_KERAS_MAJOR):
    raise InputError(f"model file {path}: was saved by Keras {version}; {_MEND}")
  return config


def _check_members(path: pathlib.Path, archive: zipfile.ZipFile) -> None:
  """Makes sure that an archive has Keras's members, as Keras writes them."""
  entries = archive.infolist()
  members = {entry.filename for entry in entries}
  if members != _MEMBERS:
    odd = ", ".join(sorted(map(ascii, members ^ _MEMBERS))).replace("'", "")
    raise InputError(
      f"model file {path}: is no plain Keras archive ({odd} missing or unknown); {_MEND}"
    )
  # A compressed member may unpack to any size.
  if len(entries) != len(_MEMBERS) or any(
    entry.compress_type != zipfile.ZIP_STORED for entry in entries
  ):
    raise InputError(
      f"model file {path}: holds compressed or repeated members, which Keras does not "
      f"write; {_MEND}"
    )


def check_config(source: str, config: dict[str, Any]) -> None:
  """Makes sure that a model consists of Keras's own parts.

  Args:
    source: Where the model comes from, for errors.
    config: As Keras serialises a model.

  Raises:
    InputError: Naming the layer and its type.
  """
  kind = config.get("class_name")
  if kind not in _MODELS or not _is_keras(config):
    raise InputError(
      f"model {source}: is a subclassed model ({kind}); build it with "
      "tf.keras.Sequential or the functional API"
    )
  try:
    layers = {layer["config"]["name"]: layer for layer in config["config"]["layers"]}
  except (KeyError, TypeError) as error:
    raise InputError(
      f"model {source}: its configuration lists no layers; {_MEND}"
    ) from error
  for name, layer in layers.items():
    described = f"model {source}: layer {name!r} ({layer.get('class_name')})"
    for found in _objects(layer):
      problem = _foreign(found)
      if problem:
        raise InputError(f"{described} {problem}")


def _objects(value: Any) -> Iterator[dict[str, Any]]:
  """Finds everything that Keras would make an object of, outermost first."""
  if isinstance(value, dict):
    if "class_name" in value:
      yield value
    for inner in value.values():
      yield from _objects(inner)
  elif isinstance(value, list):
    for inner in value:
      yield from _objects(inner)


def _foreign(found: dict[str, Any]) -> str:
  """Says what is wrong with an object's origin; empty when it is Keras's own."""
  kind = str(found["class_name"])
  if kind in _VALUES:
    return ""
  if kind in _REFUSED:
    return _REFUSED[kind]
  if kind == "function":
    return (
      f"uses the function {found.get('config')!r}; name one of Keras's own, such as "
      "activation='relu'"
    )
  if not _is_keras(found):
    return (
      f"needs {kind}, which is not Keras's own; use Keras layers only, so that the "
      "run's files load without your code"
    )
  return ""


def _is_keras(found: dict[str, Any]) -> bool:
  # What says nothing of a module is looked up among Keras's own names.
  module, name = found.get("module", "keras"), found["class_name"]
  # Where a module lacks a class, Keras takes the registered name instead.
  registered = found.get("registered_name") or name
  return module in _MODULES and str(name).isidentifier() and registered == name
