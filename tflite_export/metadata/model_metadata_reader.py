"""Reads the metadata of any `.tflite` file, also damaged ones.

The tables are those of `model_metadata_schema`; what it does not name is passed over.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from fedtiny_tff.errors import InputError
from tflite_export.file_format import associated_files, flatbuffer_model
from tflite_export.file_format.model_tensors import (
  SignatureFacts,
  TensorFacts,
  signatures,
  tensor_facts,
)
from tflite_export.metadata import model_metadata_schema as schema
from tflite_export.metadata.model_metadata_table import Table


@dataclasses.dataclass(frozen=True)
class TensorMetadata:
  """What is known of an input or output; what is not told is None.

  Attributes:
    file: What the file itself says of it.
    name: What the metadata call it.
    description: What it is.
    content: "feature", "image", "bounding_box" or "audio".
    colour_space: Of an image: "unknown", "rgb" or "greyscale".
    mean: Per channel or one: fed is (value - mean) / deviation.
    deviation: Likewise.
    least: Smallest values, per channel or one.
    largest: Likewise.
    labels: Names of what its last axis, or its values, stand for.
  """

  file: TensorFacts
  name: Optional[str] = None
  description: Optional[str] = None
  content: Optional[str] = None
  colour_space: Optional[str] = None
  mean: Optional[tuple[float, ...]] = None
  deviation: Optional[tuple[float, ...]] = None
  least: Optional[tuple[float, ...]] = None
  largest: Optional[tuple[float, ...]] = None
  labels: Optional[tuple[str, ...]] = None


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
  """What a file says of itself; what it does not tell is None.

  Attributes:
    name: Of the model.
    description: What it does.
    version: Of the model.
    author: Who made it.
    licence: Its name or text.
    min_parser_version: Of the metadata schema that a reader must know.
    signatures: Of the file.
    inputs: Of the file's first subgraph.
    outputs: Likewise.
    files: Names of the files packed with it.
    custom: Name of each custom entry of the first subgraph to its content, if that is
      a JSON object, else None.
  """

  name: Optional[str]
  description: Optional[str]
  version: Optional[str]
  author: Optional[str]
  licence: Optional[str]
  min_parser_version: Optional[str]
  signatures: tuple[SignatureFacts, ...]
  inputs: tuple[TensorMetadata, ...]
  outputs: tuple[TensorMetadata, ...]
  files: tuple[str, ...]
  custom: Mapping[str, Optional[Mapping[str, Any]]]


def read(model_bytes: bytes) -> Optional[ModelMetadata]:
  """Returns a file's metadata, None if it has none.

  Raises:
    InputError: The bytes are not a readable `.tflite` file, or its metadata or the
      files packed with it are damaged.
  """
  model = flatbuffer_model.read_model(model_bytes)
  with flatbuffer_model.reading():
    content = _content(model)
    if content is None:
      return None
    if content[4:8] != schema.FILE_IDENTIFIER:
      raise InputError(
        f"the file's metadata have identifier {content[4:8]!r} instead of "
        f"{schema.FILE_IDENTIFIER!r}; write them again"
      )
    root = Table.root(content)
    files = associated_files.read(model_bytes)
    # Only the first subgraph is what users call.
    graphs = root.tables(schema.Model.SUBGRAPHS)[:1]
    described = [
      each for graph in graphs for each in graph.tables(schema.Subgraph.INPUTS)
    ]
    given = [each for graph in graphs for each in graph.tables(schema.Subgraph.OUTPUTS)]
    inputs, outputs = tensor_facts(model)
    labels = _LabelFiles(files)
    return ModelMetadata(
      name=root.text(schema.Model.NAME),
      description=root.text(schema.Model.DESCRIPTION),
      version=root.text(schema.Model.VERSION),
      author=root.text(schema.Model.AUTHOR),
      licence=root.text(schema.Model.LICENCE),
      min_parser_version=root.text(schema.Model.MIN_PARSER_VERSION),
      signatures=signatures(model),
      inputs=_tensors(inputs, described, labels),
      outputs=_tensors(outputs, given, labels),
      files=tuple(files),
      custom=_custom(graphs),
    )


def _content(model: Any) -> Optional[bytes]:
  """Returns the flatbuffer of the first metadata entry, None without one."""
  for entry in model.metadata or []:
    if entry.name == schema.ENTRY_NAME.encode():
      if not 0 <= entry.buffer < len(model.buffers):
        raise ValueError(f"buffer {entry.buffer} of {len(model.buffers)}")
      data = model.buffers[entry.buffer].data
      return b"" if data is None else bytes(data)
  return None


class _LabelFiles:
  """Reads labels; damaged metadata may name one file of them for each of many tensors."""

  def __init__(self, files: Mapping[str, bytes]):
    self._files = files
    self._left_bytes = associated_files.MAX_BYTES

  def read(self, described: Sequence[Table]) -> Optional[tuple[str, ...]]:
    """Returns the labels of the first file of labels that is described and packed."""
    kinds = set(schema.FileType)
    for file in described:
      content = self._files.get(file.text(schema.File.NAME) or "")
      if content is not None and file.byte(schema.File.TYPE) in kinds:
        return self._lines(content)
    return None

  def _lines(self, content: bytes) -> tuple[str, ...]:
    self._left_bytes -= len(content)
    if self._left_bytes < 0:
      raise InputError(
        f"the file's labels have more than {associated_files.MAX_BYTES:,} bytes; "
        "pack fewer"
      )
    text = content.decode("utf-8", errors="replace").replace("\r\n", "\n")
    lines = text.split("\n")
    # What follows the last line break is no line, unless the break is missing.
    return tuple(lines if lines[-1] else lines[:-1])


def _tensors(
  facts: Sequence[TensorFacts], tables: Sequence[Table], labels: _LabelFiles
) -> tuple[TensorMetadata, ...]:
  """Joins tensors with their metadata, which come in the same order."""
  described = [_tensor(each, table, labels) for each, table in zip(facts, tables)]  # noqa: B905
  return (*described, *map(TensorMetadata, facts[len(described) :]))


def _tensor(facts: TensorFacts, table: Table, labels: _LabelFiles) -> TensorMetadata:
  """Reads a TensorMetadata."""
  content, colours = _content_kind(table.table(schema.Tensor.CONTENT))
  stats = table.table(schema.Tensor.STATS)
  units = [
    unit.table(schema.ProcessUnit.OPTIONS)
    for unit in table.tables(schema.Tensor.PROCESS_UNITS)
    if unit.byte(schema.ProcessUnit.OPTIONS_TYPE) == schema.NORMALISATION_OPTIONS
  ]
  normalisation = next(iter(units), None)
  return TensorMetadata(
    file=facts,
    name=table.text(schema.Tensor.NAME),
    description=table.text(schema.Tensor.DESCRIPTION),
    content=content,
    colour_space=colours,
    mean=_floats(normalisation, schema.Normalisation.MEAN),
    deviation=_floats(normalisation, schema.Normalisation.DEVIATION),
    least=_floats(stats, schema.Stats.MIN),
    largest=_floats(stats, schema.Stats.MAX),
    labels=labels.read(table.tables(schema.Tensor.FILES)),
  )


def _floats(table: Optional[Table], field: int) -> Optional[tuple[float, ...]]:
  return None if table is None else table.floats(field)


def _content_kind(content: Optional[Table]) -> tuple[Optional[str], Optional[str]]:
  """Returns the kind of a tensor's content and, for an image, its colour space."""
  if content is None:
    return None, None
  number = content.byte(schema.Content.PROPERTIES_TYPE)
  if number not in set(schema.ContentType):
    return None, None
  kind = schema.ContentType(number)
  if kind != schema.ContentType.IMAGE:
    return kind.name.lower(), None
  image = content.table(schema.Content.PROPERTIES)
  colours = 0 if image is None else image.byte(schema.Image.COLOUR_SPACE)
  known = colours in set(schema.ColourSpace)
  return "image", schema.ColourSpace(colours if known else 0).name.lower()


def _custom(graphs: Sequence[Table]) -> dict[str, Optional[Mapping[str, Any]]]:
  """Reads the custom entries."""
  return {
    entry.text(schema.Custom.NAME) or "": _parsed(entry.data(schema.Custom.DATA))
    for graph in graphs
    for entry in graph.tables(schema.Subgraph.CUSTOM)
  }


def _parsed(content: bytes) -> Optional[Mapping[str, Any]]:
  """Returns a JSON object, None for anything else."""
  try:
    parsed = json.loads(content)
  # Nesting too deep to follow is a RecursionError.
  except (ValueError, RecursionError):
    return None
  return parsed if isinstance(parsed, dict) else None
