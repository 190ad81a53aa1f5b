"""Builds the flatbuffer of a model's metadata.

What the schema has no field for stands in one custom entry, as compact JSON: product,
task, method, format, density, signature, and how the numbers of input and output are
to be understood.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Optional

import flatbuffers
import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.errors import InputError
from tflite_export.file_format.flatbuffer_writer import write_aligned
from tflite_export.file_format.model_tensors import TensorFacts
from tflite_export.metadata import model_metadata_schema as schema
from tflite_export.metadata.model_description import ModelDescription

LABELS_FILE = "labels.txt"
_COLOUR_SPACES = {1: schema.ColourSpace.GREYSCALE, 3: schema.ColourSpace.RGB}
_NOTHING: Mapping[int, int] = {}


def pack(
  description: ModelDescription, source: TensorFacts, target: TensorFacts
) -> bytes:
  """Returns the metadata of a file with this input and this output.

  Raises:
    InputError: A text is not valid Unicode.
  """
  return _Writer(description).write(source, target)


def encoded(text: str) -> bytes:
  """Returns UTF-8; raises `InputError` for text that has none."""
  try:
    return text.encode()
  except UnicodeEncodeError as error:
    raise InputError(f"{text!r} is not valid Unicode; give other text") from error


class _Writer:
  """Builds the flatbuffer, from the innermost tables outwards."""

  def __init__(self, description: ModelDescription):
    self._said = description
    self._builder = flatbuffers.Builder(1024)

  def write(self, source: TensorFacts, target: TensorFacts) -> bytes:
    """Returns the finished flatbuffer."""
    said = self._said
    subgraph = self._table(
      schema.Subgraph,
      {
        schema.Subgraph.INPUTS: self._tables([self._input(source)]),
        schema.Subgraph.OUTPUTS: self._tables([self._output(target)]),
        schema.Subgraph.CUSTOM: self._tables([self._custom(source, target)]),
      },
    )
    texts = {
      schema.Model.NAME: said.name,
      schema.Model.DESCRIPTION: said.description,
      schema.Model.VERSION: said.version,
      schema.Model.AUTHOR: said.author,
      schema.Model.LICENCE: said.licence,
      schema.Model.MIN_PARSER_VERSION: schema.MIN_PARSER_VERSION,
    }
    fields: dict[int, int] = {field: self._text(text) for field, text in texts.items()}
    fields[schema.Model.SUBGRAPHS] = self._tables([subgraph])
    root = self._table(schema.Model, fields)
    self._builder.Finish(root, file_identifier=schema.FILE_IDENTIFIER)
    return bytes(self._builder.Output())

  def _input(self, source: TensorFacts) -> int:
    said = self._said
    mean, deviation = self._floats(said.mean), self._floats(said.deviation)
    options = self._table(
      schema.Normalisation,
      {schema.Normalisation.MEAN: mean, schema.Normalisation.DEVIATION: deviation},
    )
    unit = self._table(
      schema.ProcessUnit,
      {schema.ProcessUnit.OPTIONS: options},
      {schema.ProcessUnit.OPTIONS_TYPE: schema.NORMALISATION_OPTIONS},
    )
    fields: dict[int, int] = {schema.Tensor.PROCESS_UNITS: self._tables([unit])}
    limits = self._limits(source)
    if limits is not None:
      fields[schema.Tensor.STATS] = self._table(
        schema.Stats,
        {
          schema.Stats.MIN: self._floats(limits[0]),
          schema.Stats.MAX: self._floats(limits[1]),
        },
      )
    return self._tensor(source, said.input_description, said.image_input, fields)

  def _limits(self, source: TensorFacts) -> Optional[Array]:
    """Returns least and largest values as the tensor holds them, [2, channels]."""
    if source.dtype in ("int8", "uint8", "int16"):
      kind = np.iinfo(source.dtype)
      return np.array([[kind.min], [kind.max]])
    if self._said.value_range is None:
      return None
    stored = np.asarray(self._said.value_range)[:, np.newaxis]
    return np.asarray((stored - self._said.mean) / self._said.deviation)

  def _output(self, target: TensorFacts) -> int:
    fields: dict[int, int] = {}
    if self._said.class_names:
      labels = self._table(
        schema.File,
        {
          schema.File.NAME: self._text(LABELS_FILE),
          schema.File.DESCRIPTION: self._text("Class names, one a line."),
        },
        {schema.File.TYPE: schema.FileType.AXIS_LABELS},
      )
      fields[schema.Tensor.FILES] = self._tables([labels])
    return self._tensor(target, self._said.output_description, False, fields)

  def _tensor(
    self, facts: TensorFacts, description: str, image: bool, fields: Mapping[int, int]
  ) -> int:
    """Writes a TensorMetadata; `fields` are those written already."""
    kind = schema.ContentType.IMAGE if image else schema.ContentType.FEATURE
    colours = _COLOUR_SPACES.get(facts.shape[-1] if image else 0)
    properties = (
      self._table(schema.Image, {}, {schema.Image.COLOUR_SPACE: colours or 0})
      if image
      else self._table(())
    )
    content = self._table(
      schema.Content,
      {schema.Content.PROPERTIES: properties},
      {schema.Content.PROPERTIES_TYPE: kind},
    )
    written: dict[int, int] = {
      schema.Tensor.NAME: self._text(facts.name),
      schema.Tensor.DESCRIPTION: self._text(description),
      schema.Tensor.CONTENT: content,
    }
    return self._table(schema.Tensor, {**fields, **written})

  def _custom(self, source: TensorFacts, target: TensorFacts) -> int:
    """Writes what the schema has no field for."""
    said = self._said
    told: dict[str, Any] = {
      "product": said.product,
      "task": said.task,
      "method": said.method,
      "format": said.format,
      "density": said.density,
      "signature": source.signature,
      "input": _quantisation(source),
      "output": _quantisation(target),
    }
    if said.value_range is not None:
      told["input"]["range"] = said.value_range
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=False)
    name = self._text(schema.CUSTOM_NAME)
    data = write_aligned(self._builder, encoded(text))
    return self._table(
      schema.Custom, {schema.Custom.NAME: name, schema.Custom.DATA: data}
    )

  def _text(self, text: str) -> int:
    encoded(text)
    # Descriptions repeat; flatbuffers store such a string once.
    return int(self._builder.CreateSharedString(text))

  def _floats(self, values: Sequence[float]) -> int:
    return int(self._builder.CreateNumpyVector(np.asarray(values, np.float32)))

  def _tables(self, tables: Sequence[int]) -> int:
    self._builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
      self._builder.PrependUOffsetTRelative(table)
    return int(self._builder.EndVector())

  def _table(
    self,
    fields: Collection[int],
    offsets: Mapping[int, int] = _NOTHING,
    numbers: Mapping[int, int] = _NOTHING,
  ) -> int:
    """Writes a table of offsets and of numbers of one byte, by field."""
    self._builder.StartObject(max(map(int, fields), default=-1) + 1)
    for field, offset in offsets.items():
      self._builder.PrependUOffsetTRelativeSlot(int(field), offset, 0)
    for field, number in numbers.items():
      self._builder.PrependUint8Slot(int(field), int(number), 0)
    return int(self._builder.EndObject())


def _quantisation(facts: TensorFacts) -> dict[str, Any]:
  """Returns how a tensor's numbers are to be understood."""
  said: dict[str, Any] = {"type": facts.dtype}
  if facts.scale:
    said |= {"scale": facts.scale, "zero_point": facts.zero_point}
  return said
