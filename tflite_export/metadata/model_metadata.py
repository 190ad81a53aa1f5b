"""Writes into a `.tflite` file what it is, so that Android's own tools understand it.

The standard metadata: an entry TFLITE_METADATA whose buffer holds a flatbuffer of its
own (`model_metadata_writer`), and the labels in an archive behind the file
(`associated_files`). `model_metadata_reader` reads them back.
https://ai.google.dev/edge/litert/models/metadata
"""

import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tflite_export.file_format import associated_files, flatbuffer_model
from tflite_export.file_format.compact_writer import write_compact
from tflite_export.file_format.model_tensors import TensorFacts, tensor_facts
from tflite_export.metadata.model_description import ModelDescription
from tflite_export.metadata.model_metadata_schema import ENTRY_NAME
from tflite_export.metadata.model_metadata_writer import LABELS_FILE, encoded, pack


def attach(model_bytes: bytes, description: ModelDescription) -> bytes:
  """Returns the file with metadata, in place of any it had.

  Attaching the same again changes nothing. All else means the same: weights stay
  aligned, and other entries, such as min_runtime_version, stay.

  Args:
    model_bytes: A file whose first subgraph has one input and one output.
    description: What to say of it; names, shapes and quantisation of input and
      output are taken from the file.

  Raises:
    InputError: The bytes are not such a file, or the description does not fit it.
  """
  model = flatbuffer_model.read_model(model_bytes)
  with flatbuffer_model.reading():
    inputs, outputs = tensor_facts(model)
    if len(inputs) != 1 or len(outputs) != 1:
      raise InputError(
        f"the .tflite file has {len(inputs)} inputs and {len(outputs)} outputs; "
        "build the model with one each, for which metadata are written"
      )
    if any(buffer.offset or buffer.size for buffer in model.buffers):
      raise InputError("the .tflite file holds weights behind its model; inline them")
    _check_fit(description, inputs[0], outputs[0])
    labels = "".join(f"{name}\n" for name in description.class_names)
    files = {LABELS_FILE: encoded(labels)} if labels else {}
    _put(model, pack(description, inputs[0], outputs[0]))
    return associated_files.append(write_compact(model), files)


def _check_fit(
  description: ModelDescription, source: TensorFacts, target: TensorFacts
) -> None:
  """Raises `InputError` where the description contradicts the file."""
  channels = source.shape[-1] if source.shape else 1
  for what, values in (
    ("mean", description.mean),
    ("deviation", description.deviation),
  ):
    if len(values) not in (1, channels):
      raise InputError(
        f"{what} has {len(values)} values for input shape {list(source.shape)}; give "
        f"one, or {channels}"
      )
  if description.image_input and len(source.shape) != 4:
    raise InputError(
      f"an input of shape {list(source.shape)} is no image; give height, width and channels"
    )
  classes, outputs = len(description.class_names), math.prod(target.shape[1:])
  if classes and classes != outputs:
    raise InputError(
      f"there are {classes} class names for {outputs} outputs; name each once"
    )


def _put(model: Any, content: bytes) -> None:
  """Makes `content` the model's metadata; earlier ones give up their buffer."""
  ours = ENTRY_NAME.encode()
  entries = model.metadata or []
  old = next((entry for entry in entries if entry.name == ours), None)
  model.metadata = [entry for entry in entries if entry is old or entry.name != ours]
  used = [entry.buffer for entry in model.metadata]
  used += [each.buffer for graph in model.subgraphs for each in graph.tensors]
  if old is None or not old.buffer or used.count(old.buffer) != 1:
    if old is None:
      old = schema.MetadataT(name=ours)
      model.metadata.append(old)
    # Buffer 0 stands for "no data".
    model.buffers += [schema.BufferT()] * (not model.buffers)
    old.buffer = len(model.buffers)
    model.buffers.append(schema.BufferT())
  model.buffers[old.buffer].data = np.frombuffer(content, np.uint8)
