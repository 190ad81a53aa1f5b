"""Ranges of a file's activations, and how they are written into the float file.

The float file is what the converter makes before anything is quantised: batch norm
folded, activations fused. TFLite's quantiser reads `min` and `max` of each of its
activation tensors, wherever they come from.
https://ai.google.dev/edge/litert/models/post_training_quantization
"""

import dataclasses

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.file_format import flatbuffer_model
from tflite_export.file_format.flatbuffer_writer import write_model


@dataclasses.dataclass(frozen=True, eq=False)
class ActivationRanges:
  """The values that the activations of one model take.

  Attributes:
    names: Of the activation tensors, as `activations` gives them.
    minimum: float32 [tensors].
    maximum: float32 [tensors].
  """

  names: tuple[str, ...]
  minimum: Array
  maximum: Array

  def __post_init__(self) -> None:
    """Checks that these can be ranges.

    Raises:
      InputError: Naming a tensor without a finite range.
      ValueError: For vectors of another length.
    """
    shape = (len(self.names),)
    if self.minimum.shape != shape or self.maximum.shape != shape:
      raise ValueError(
        f"{len(self.names)} tensors have {self.minimum.shape} minima and "
        f"{self.maximum.shape} maxima"
      )
    with np.errstate(all="ignore"):
      widths = self.maximum - self.minimum
    pairs = zip(self.minimum, self.maximum, strict=True)
    for name, width, (low, high) in zip(self.names, widths, pairs, strict=True):
      if not (np.isfinite(width) and width >= 0):
        raise InputError(
          f"activation {name!r} has the range [{low:g}, {high:g}] on the calibration "
          "data; give finite data and a model that computes finite values of them"
        )


def activation_indices(model: schema.ModelT) -> list[int]:
  """Returns which tensors of a float file are activations.

  Raises:
    InputError: The file has control flow; activations within have no range of their
      own.
  """
  if len(model.subgraphs) != 1:
    raise InputError(
      f"the model has control flow ({len(model.subgraphs)} subgraphs), for which no "
      "activation ranges can be given; use unroll=True on recurrent layers, or "
      "minima and maxima over samples of the server"
    )
  subgraph = model.subgraphs[0]
  used = {*subgraph.inputs, *subgraph.outputs}
  for operator in subgraph.operators:
    used |= {*operator.inputs, *operator.outputs}
  return [
    index
    for index, tensor in enumerate(subgraph.tensors)
    if index in used
    and tensor.type == schema.TensorType.FLOAT32
    and not flatbuffer_model.is_constant(model, tensor)
  ]


def activations(float_file: bytes) -> tuple[str, ...]:
  """Returns the names of a float file's activation tensors, in its order."""
  model = flatbuffer_model.read_model(float_file)
  tensors = model.subgraphs[0].tensors
  return tuple(
    flatbuffer_model.tensor_name(tensors[index]) for index in activation_indices(model)
  )


def write_ranges(float_file: bytes, ranges: ActivationRanges) -> bytes:
  """Returns the float file as after calibration.

  Raises:
    InputError: The ranges are of another model.
  """
  model = flatbuffer_model.read_model(float_file)
  tensors = model.subgraphs[0].tensors
  indices = activation_indices(model)
  names = tuple(flatbuffer_model.tensor_name(tensors[index]) for index in indices)
  if names != ranges.names:
    other = next(iter(set(names) ^ set(ranges.names)), "in another order")
    raise InputError(
      f"the ranges of {len(ranges.names)} activations are of another model than this "
      f"one with {len(names)} (tensor {other!r}); measure them with this model"
    )
  for index, low, high in zip(indices, ranges.minimum, ranges.maximum, strict=True):
    quantisation = tensors[index].quantization or schema.QuantizationParametersT()
    quantisation.min = np.asarray([low], np.float32)
    quantisation.max = np.asarray([high], np.float32)
    tensors[index].quantization = quantisation
  return write_model(model)
