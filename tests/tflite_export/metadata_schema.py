"""TensorFlow's metadata tables by their declarations, read and written generically.

An oracle that shares nothing with the product: offsets are followed by hand.
https://github.com/google-ai-edge/mediapipe/blob/master/mediapipe/tasks/metadata/metadata_schema.fbs
"""

import struct

import numpy as np

# Table to its fields in order: name and kind. `[x]` is a vector, `a|b` a union, which
# takes two places: its type and its table. Other tables are named.
TABLES = {
  "AssociatedFile": "name:text description:text type:byte locale:text version:text",
  "FeatureProperties": "",
  "ImageSize": "width:uint height:uint",
  "ImageProperties": "color_space:byte default_size:ImageSize",
  "BoundingBoxProperties": "index:[uint] type:byte coordinate_type:byte",
  "AudioProperties": "sample_rate:uint channels:uint",
  "ValueRange": "min:uint max:uint",
  "Content": (
    "content_properties:FeatureProperties|ImageProperties|BoundingBoxProperties"
    "|AudioProperties range:ValueRange"
  ),
  "NormalizationOptions": "mean:[float] std:[float]",
  "ScoreCalibrationOptions": "score_transformation:byte default_score:float",
  "ProcessUnit": "options:NormalizationOptions|ScoreCalibrationOptions",
  "Stats": "max:[float] min:[float]",
  "TensorMetadata": (
    "name:text description:text dimension_names:[text] content:Content "
    "process_units:[ProcessUnit] stats:Stats associated_files:[AssociatedFile]"
  ),
  "CustomMetadata": "name:text data:[byte]",
  "TensorGroup": "name:text tensor_names:[text]",
  "SubGraphMetadata": (
    "name:text description:text input_tensor_metadata:[TensorMetadata] "
    "output_tensor_metadata:[TensorMetadata] associated_files:[AssociatedFile] "
    "input_process_units:[ProcessUnit] output_process_units:[ProcessUnit] "
    "input_tensor_groups:[TensorGroup] output_tensor_groups:[TensorGroup] "
    "custom_metadata:[CustomMetadata]"
  ),
  "ModelMetadata": (
    "name:text description:text version:text subgraph_metadata:[SubGraphMetadata] "
    "author:text license:text associated_files:[AssociatedFile] "
    "min_parser_version:text"
  ),
}
_SCALARS = {"byte": "<B", "uint": "<I", "float": "<f"}


def fields(table):
  """Returns (place, name, kind) of each field."""
  place, found = 0, []
  for entry in TABLES[table].split():
    name, kind = entry.split(":")
    place += "|" in kind
    found.append((place, name, kind))
    place += 1
  return found


def decode(content):
  """Returns a ModelMetadata flatbuffer as nested dicts of the fields it holds."""
  assert content[4:8] == b"M001"
  return _table(content, _number(content, 0), "ModelMetadata")


def _number(content, place, form="<I"):
  return struct.unpack_from(form, content, place)[0]


def _where(content, start, place):
  vtable = start - _number(content, start, "<i")
  if 4 + 2 * place >= _number(content, vtable, "<H"):
    return 0
  offset = _number(content, vtable + 4 + 2 * place, "<H")
  return start + offset if offset else 0


def _table(content, start, table):
  found: dict = {}
  for place, name, kind in fields(table):
    where = _where(content, start, place)
    if where and "|" in kind:
      member = kind.split("|")[content[_where(content, start, place - 1)] - 1]
      found |= {f"{name}_type": member, name: _value(content, where, member)}
    elif where:
      found[name] = _value(content, where, kind)
  return found


def _value(content, where, kind):
  if kind in _SCALARS:
    return _number(content, where, _SCALARS[kind])
  start = where + _number(content, where)
  if kind == "text":
    assert content[start + 4 + _number(content, start)] == 0
    return content[start + 4 : start + 4 + _number(content, start)].decode()
  if not kind.startswith("["):
    return _table(content, start, kind)
  kind, length = kind[1:-1], _number(content, start)
  if kind == "byte":
    return content[start + 4 : start + 4 + length]
  return [_value(content, start + 4 + 4 * index, kind) for index in range(length)]


def encode(builder, table, values):
  """Writes nested dicts as a table; returns its offset."""
  offsets, scalars = {}, {}
  for place, name, kind in fields(table):
    if name not in values:
      continue
    if kind in _SCALARS:
      scalars[place] = kind, values[name]
    elif "|" in kind:
      member = values[f"{name}_type"]
      scalars[place - 1] = "byte", kind.split("|").index(member) + 1
      offsets[place] = encode(builder, member, values[name])
    else:
      offsets[place] = _encode_value(builder, kind, values[name])
  builder.StartObject(20)
  for place, offset in offsets.items():
    builder.PrependUOffsetTRelativeSlot(place, offset, 0)
  for place, (kind, value) in scalars.items():
    prepend = {
      "byte": builder.PrependUint8Slot,
      "uint": builder.PrependUint32Slot,
      "float": builder.PrependFloat32Slot,
    }
    prepend[kind](place, value, 0)
  return builder.EndObject()


def _encode_value(builder, kind, value):
  if kind == "text":
    return builder.CreateString(value)
  if kind == "[float]":
    return builder.CreateNumpyVector(np.asarray(value, np.float32))
  if kind == "[byte]":
    return builder.CreateByteVector(value)
  if not kind.startswith("["):
    return encode(builder, kind, value)
  items = [_encode_value(builder, kind[1:-1], each) for each in value]
  builder.StartVector(4, len(items), 4)
  for item in reversed(items):
    builder.PrependUOffsetTRelative(item)
  return builder.EndVector()
