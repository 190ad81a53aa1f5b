"""What the numbers mean that come out of a model: judged by the layer at its end."""

from typing import Any

import tensorflow as tf

from tflite_export.artifacts import ExportRequest

RECONSTRUCTION = "reconstruction"
LOGITS = "logits"
SOFTMAX = "softmax"
SIGMOID = "sigmoid"
OTHER = "other"

# Layers that change no value.
_SAME_VALUES = (
  tf.keras.layers.Flatten, tf.keras.layers.Reshape, tf.keras.layers.Dropout,
)  # fmt: skip
_OPERATIONS = {"nn.softmax": SOFTMAX, "nn.sigmoid": SIGMOID, "math.sigmoid": SIGMOID}
_ACTIVATIONS = {"softmax": SOFTMAX, "sigmoid": SIGMOID, "linear": LOGITS}


def meaning(request: ExportRequest) -> str:
  """Returns what the outputs are.

  Returns:
    `RECONSTRUCTION`; or, one a class, `SOFTMAX` for probabilities that add up to 1,
    `SIGMOID` for values from 0 to 1 that do not, `LOGITS` where nothing follows the
    last sum, `OTHER` where something else does.
  """
  if not request.task.has_classes:
    return RECONSTRUCTION
  return _of_tensor(request.model.outputs[0])


def _of_tensor(tensor: Any) -> str:
  history = tensor._keras_history
  layer = history.layer
  if isinstance(layer, tf.keras.Model):
    return _of_tensor(layer.outputs[history.tensor_index])
  if isinstance(layer, tf.keras.layers.Softmax):
    return SOFTMAX
  symbol = getattr(layer, "symbol", None)
  if symbol is not None:
    return _OPERATIONS.get(str(symbol), OTHER)
  activation = _activation(layer)
  if activation != "linear":
    return _ACTIVATIONS.get(activation, OTHER)
  is_plain = isinstance(layer, (*_SAME_VALUES, tf.keras.layers.Activation))
  given = layer.inbound_nodes[history.node_index].keras_inputs
  if is_plain and len(given) == 1:
    return _of_tensor(given[0])
  return LOGITS


def _activation(layer: tf.keras.layers.Layer) -> str:
  """Returns the name of a layer's activation, which is a function or a layer."""
  found = getattr(layer, "activation", None)
  if found is None:
    return "linear"
  return str(getattr(found, "__name__", type(found).__name__.lower()))


def signature_name(request: ExportRequest) -> str:
  """Returns what a file's signature calls its output."""
  found = meaning(request)
  if found in (SOFTMAX, SIGMOID):
    return "probabilities"
  return RECONSTRUCTION if found == RECONSTRUCTION else LOGITS


def in_words(found: str) -> str:
  """Says what `meaning` found, as part of a sentence."""
  return {
    RECONSTRUCTION: "the input again, flat",
    LOGITS: (
      "logits, one per class: the largest is the answer, and they are no probabilities "
      "until softmax is applied"
    ),
    SOFTMAX: (
      "one probability per class, after softmax: they add up to 1, apply no second one"
    ),
    SIGMOID: (
      "one value from 0 to 1 per class, after sigmoid: each for itself, they do not add "
      "up to 1"
    ),
    OTHER: "one value per class, as the model's last layer gives it; the largest is the answer",
  }[found]
