"""Writes `.tflite` bytes whose constant data are aligned as runtimes expect."""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

BUFFER_ALIGNMENT_BYTES = 16


def write_model(model: schema.ModelT) -> bytes:
  """Returns the file of a model, the same bytes for the same model.

  Args:
    model: A model as `flatbuffer_model.read_model` gives it; its buffers are
      changed to the class that writes them aligned.
  """
  for buffer in model.buffers:
    buffer.__class__ = _AlignedBuffer
  builder = flatbuffers.Builder(1024)
  builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
  return bytes(builder.Output())


class _AlignedBuffer(schema.BufferT):
  """A buffer whose data starts at a multiple of 16 bytes, as the schema demands.

  Python's generated `Pack` ignores the schema's `force_align`.
  """

  def Pack(self, builder: Any) -> int:
    """Writes the buffer; returns its position in the file under construction."""
    data = np.asarray([] if self.data is None else self.data, np.uint8).tobytes()
    if data:
      vector = write_aligned(builder, data)
    schema.BufferStart(builder)
    if data:
      schema.BufferAddData(builder, vector)
    return int(schema.BufferEnd(builder))


def write_aligned(builder: flatbuffers.Builder, data: bytes) -> int:
  """Writes bytes that start at a multiple of 16; returns where, as flatbuffers count."""
  builder.StartVector(1, len(data), BUFFER_ALIGNMENT_BYTES)
  builder.head = builder.Head() - len(data)
  builder.Bytes[builder.head : builder.head + len(data)] = data
  return int(builder.EndVector())
