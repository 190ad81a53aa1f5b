"""What the numbers mean that come out of a model: judged by the layer at its end."""

from typing import Any, Optional

import tensorflow as tf

from tflite_export.artifacts import ExportRequest

RECONSTRUCTION = "reconstruction"
LOGITS = "logits"
SOFTMAX = "softmax"
SIGMOID = "sigmoid"
OTHER = "other"

_LAYERS = tf.keras.layers
# Layers that make no numbers of their own, and what their outputs still are if all of
# their inputs are that.
_KEPT = (
  (
    # A mean of shares that add up to 1 does so too.
    (
      _LAYERS.Activation, _LAYERS.ActivityRegularization, _LAYERS.AlphaDropout,
      _LAYERS.Average, _LAYERS.AveragePooling1D, _LAYERS.AveragePooling2D,
      _LAYERS.AveragePooling3D, _LAYERS.Concatenate, _LAYERS.Dropout, _LAYERS.Flatten,
      _LAYERS.GaussianDropout, _LAYERS.GaussianNoise, _LAYERS.GlobalAveragePooling1D,
      _LAYERS.GlobalAveragePooling2D, _LAYERS.GlobalAveragePooling3D, _LAYERS.Reshape,
    ),
    (LOGITS, SIGMOID, SOFTMAX),
  ),
  (
    (
      _LAYERS.GlobalMaxPooling1D, _LAYERS.GlobalMaxPooling2D, _LAYERS.GlobalMaxPooling3D,
      _LAYERS.Maximum, _LAYERS.MaxPooling1D, _LAYERS.MaxPooling2D, _LAYERS.MaxPooling3D,
      _LAYERS.Minimum,
    ),
    (LOGITS, SIGMOID),
  ),
  ((_LAYERS.Add, _LAYERS.Rescaling, _LAYERS.Subtract), (LOGITS,)),
)  # fmt: skip
_OPERATIONS = {"nn.softmax": SOFTMAX, "nn.sigmoid": SIGMOID, "math.sigmoid": SIGMOID}
_ACTIVATIONS = {"softmax": SOFTMAX, "sigmoid": SIGMOID, "linear": LOGITS}


def meaning(request: ExportRequest) -> str:
  """Returns what the outputs are.

  Returns:
    `RECONSTRUCTION`; or, one a class, `SOFTMAX` for probabilities that add up to 1,
    `SIGMOID` for values from 0 to 1 that do not, `LOGITS` where nothing follows the
    last sum, `OTHER` where something else does, or nobody knows.
  """
  if not request.task.has_classes:
    return RECONSTRUCTION
  output = request.model.outputs[0]
  found = _of_tensor(output)
  # Softmax makes 1 of every single value.
  return OTHER if output.shape[-1] == 1 and found != SIGMOID else found


def _of_tensor(tensor: Any) -> str:
  history = tensor._keras_history
  layer = history.layer
  if isinstance(layer, tf.keras.Model):
    return _of_tensor(layer.outputs[history.tensor_index])
  made = _made_by(layer)
  return _kept_of_inputs(tensor) if made is None else made


def _made_by(layer: tf.keras.layers.Layer) -> Optional[str]:
  """Returns what a layer makes of any inputs; None where it makes no numbers itself."""
  if isinstance(layer, _LAYERS.Softmax):
    return SOFTMAX
  if isinstance(layer, _LAYERS.BatchNormalization):
    return LOGITS
  symbol = getattr(layer, "symbol", None)
  if symbol is not None:
    return _OPERATIONS.get(str(symbol), OTHER)
  activation = _activation(layer)
  is_plain = isinstance(layer, _LAYERS.Activation) and activation == "linear"
  if activation is None or is_plain:
    return None
  return _ACTIVATIONS.get(activation, OTHER)


def _kept_of_inputs(tensor: Any) -> str:
  """Returns what all inputs of the layer behind a tensor are, if it leaves them so."""
  history = tensor._keras_history
  layer = history.layer
  kept = next((kept for types, kept in _KEPT if isinstance(layer, types)), ())
  if not kept:
    return OTHER
  given = layer.inbound_nodes[history.node_index].keras_inputs
  found = {_of_tensor(each) for each in given}
  common = found.pop() if len(found) == 1 else OTHER
  # Shares add up to 1 along the last axis, as long as that stays as it is.
  is_cut = any(each.shape[-1] != tensor.shape[-1] for each in given)
  return OTHER if common not in kept or (common == SOFTMAX and is_cut) else common


def _activation(layer: tf.keras.layers.Layer) -> Optional[str]:
  """Returns the name of a layer's activation, a function or a layer; None without."""
  found = getattr(layer, "activation", None)
  if found is None:
    return None
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
    OTHER: (
      "one value per class, as the model's last layer gives it; of several, the largest "
      "is the answer"
    ),
  }[found]
