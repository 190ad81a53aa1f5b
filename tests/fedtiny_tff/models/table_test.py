"""The documented table is what the models are, its verdicts follow from their layers."""

import pathlib
import re
import sys

import pytest
import tensorflow as tf

from fedtiny_tff.models import registry, table
from tests.fedtiny_tff.models import support

_DOCUMENT = pathlib.Path(__file__).resolve().parents[3] / "docs" / "models.md"
_HARMLESS = (
  tf.keras.layers.InputLayer,
  tf.keras.layers.ZeroPadding2D,
  tf.keras.layers.BatchNormalization,
  tf.keras.layers.ReLU,
  tf.keras.layers.Add,
)


@pytest.mark.slow
def test_the_document_holds_the_current_table():
  assert table.markdown() in _DOCUMENT.read_text(encoding="utf-8"), (
    "put the output of `python -m fedtiny_tff.models.table` into docs/models.md"
  )


def test_the_document_says_what_each_model_is_for():
  text = _DOCUMENT.read_text(encoding="utf-8")
  assert [name for name in registry.MODELS if f"- `{name}`" not in text] == []


def test_every_model_is_in_the_table():
  assert {row.name for row in table.ROWS} == set(registry.MODELS)
  assert set(table.XNNPACK_OBSTACLES) < set(registry.MODELS)


def _padding(layer):
  """Returns how a convolution pads: "none", "one" on each side, or "same"."""
  if layer.padding == "same":
    return "same"
  before = layer.input._keras_history.layer
  if isinstance(before, tf.keras.layers.ZeroPadding2D):
    return "one" if before.padding == ((1, 1), (1, 1)) else "odd"
  return "none"


def _obstacles(model):
  """Lists the layers that XNNPACK's sparse path cannot take."""
  found = []
  seen_stem = ended = False
  for layer in model.layers:
    if isinstance(layer, tf.keras.layers.DepthwiseConv2D):
      strides = {"one": (1, 2), "same": (1,)}.get(_padding(layer), ())
      fits = layer.kernel_size == (3, 3) and layer.strides[0] in strides
    elif isinstance(layer, tf.keras.layers.Conv2D) and not seen_stem:
      seen_stem = True
      fits = (layer.kernel_size, layer.strides) == ((3, 3), (2, 2))
      fits = fits and _padding(layer) == "one" and layer.input_shape[-1] == 3
    elif isinstance(layer, tf.keras.layers.Conv2D):
      fits = (layer.kernel_size, layer.strides) == ((1, 1), (1, 1))
    elif isinstance(layer, tf.keras.layers.GlobalAveragePooling2D):
      ended = True
      fits = not layer.keepdims
    else:
      is_head = ended and isinstance(layer, tf.keras.layers.Dense)
      fits = is_head or isinstance(layer, _HARMLESS)
    if not fits:
      found.append(layer.name)
  return found


@pytest.mark.parametrize("name", registry.MODELS)
def test_the_verdicts_follow_from_the_layers(name):
  # 3 channels for all, so that no verdict hangs on the stem's input alone.
  model = support.graph_model(name, (32, 32, 3), 2, 0.1)
  assert bool(_obstacles(model)) == (name in table.XNNPACK_OBSTACLES)


def test_other_than_one_or_three_channels_close_the_sparse_path():
  model = support.graph_model("mobilenet_v1_sparse", (32, 32, 2), 2, 0.1)
  assert _obstacles(model) == ["stem"]
  # A grey image is repeated before the stem, where it does no harm.
  model = support.graph_model("mobilenet_v1_sparse", (32, 32, 1), 2, 0.1)
  assert _obstacles(model) == ["three_channels"]


def test_the_example_of_an_own_model_works(tmp_path, monkeypatch):
  text = _DOCUMENT.with_name("own_model.md").read_text(encoding="utf-8")
  example, *_ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
  (tmp_path / "my_models.py").write_text(example)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", [*sys.path])
  monkeypatch.delitem(sys.modules, "my_models", raising=False)
  [name] = {*re.findall(r"--model=(my_models:\w+)", text)}
  found = registry.get_model(name, (8, 8, 1), 10)
  assert support.blocks(found) == (("body",), ("hidden", "head"))
