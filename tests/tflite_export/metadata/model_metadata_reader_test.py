"""Metadata of other tools, and damaged ones."""

import io
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import files, metadata_schema, models
from tests.tflite_export.descriptions import description
from tflite_export.file_format import associated_files
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.file_format.flatbuffer_writer import write_model
from tflite_export.metadata.model_metadata import attach
from tflite_export.metadata.model_metadata_reader import read

LABELS = {"name": "names.txt", "type": 3, "locale": "de"}


def flatbuffer(values, identifier=b"M001"):
  builder = flatbuffers.Builder(256)
  root = metadata_schema.encode(builder, "ModelMetadata", values)
  builder.Finish(root, file_identifier=identifier)
  return bytes(builder.Output())


def described(content, packed=()):
  """Returns a file with a metadata flatbuffer and (name, text) packed behind."""
  model = read_model(models.converted("fp32_dense"))
  model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
  model.metadata.append(
    schema.MetadataT(name=b"TFLITE_METADATA", buffer=len(model.buffers) - 1)
  )
  stream = io.BytesIO()
  stream.write(write_model(model))
  if packed:
    with zipfile.ZipFile(stream, "w") as archive:
      for name, text in packed:
        archive.writestr(name, text)
  return stream.getvalue()


def foreign(tensor, packed=()):
  """Returns what is read of an output with these metadata."""
  values = {"subgraph_metadata": [{"output_tensor_metadata": [tensor]}]}
  read_back = read(described(flatbuffer(values), packed))
  assert read_back is not None
  return read_back.outputs[0]


class TestOthers:
  def test_file_without_metadata(self):
    assert read(models.converted("fp32_dense")) is None
    assert read(files.written(files.one_layer())) is None

  def test_metadata_that_say_nothing(self):
    found = read(described(flatbuffer({})))
    assert found is not None
    assert (found.name, found.licence, found.files, found.custom) == (
      None,
      None,
      (),
      {},
    )
    # What the file itself says is there all the same.
    assert found.inputs[0].file.name == "inputs"
    assert found.inputs[0].name is None
    assert found.signatures[0].outputs == ("logits",)

  def test_fields_that_are_passed_over(self):
    tensor = {
      "name": "scores",
      "dimension_names": ["batch", "class"],
      "content": {"range": {"min": 1, "max": 2}},
      "process_units": [
        {
          "options_type": "ScoreCalibrationOptions",
          "options": {"score_transformation": 1, "default_score": 0.5},
        },
        {"options_type": "NormalizationOptions", "options": {"mean": [2.0]}},
      ],
      "stats": {"max": [1.0]},
    }
    found = foreign(tensor)
    assert (found.name, found.content) == ("scores", None)
    assert (found.mean, found.deviation) == ((2.0,), None)
    assert (found.least, found.largest) == (None, (1.0,))

  @pytest.mark.parametrize(
    ("kind", "properties", "content", "colours"),
    [
      ("AudioProperties", {"sample_rate": 16000}, "audio", None),
      ("BoundingBoxProperties", {"index": [], "type": 1}, "bounding_box", None),
      ("ImageProperties", {"color_space": 2}, "image", "greyscale"),
      ("ImageProperties", {}, "image", "unknown"),
      ("ImageProperties", {"color_space": 9}, "image", "unknown"),
    ],
  )
  def test_content(self, kind, properties, content, colours):
    found = foreign(
      {"content": {"content_properties_type": kind, "content_properties": properties}}
    )
    assert (found.content, found.colour_space) == (content, colours)

  @pytest.mark.parametrize(
    ("text", "labels"),
    [
      ("a\nb", ("a", "b")),
      ("a\r\nb\r\n", ("a", "b")),
      ("a\n\nb\n\n", ("a", "", "b", "")),
      ("", ()),
      (b"\xff\n", ("�",)),
    ],
  )
  def test_labels(self, text, labels):
    found = foreign({"associated_files": [LABELS]}, [("names.txt", text)])
    assert found.labels == labels

  def test_labels_that_are_described_but_not_packed(self):
    assert foreign({"associated_files": [LABELS]}).labels is None
    other = foreign({"associated_files": [LABELS]}, [("other.txt", "a\n")])
    assert other.labels is None

  def test_other_files_are_no_labels(self):
    tensor = {"associated_files": [{"name": "readme.txt", "type": 1}]}
    assert foreign(tensor, [("readme.txt", "a\n")]).labels is None

  def test_custom_entries(self):
    deep = b"[" * 100_000
    entries = [(b'{"a": 1}', {"a": 1}), (b"[1]", None), (b"\xff", None), (deep, None)]
    values = [
      {"name": str(number), "data": data} for number, (data, _) in enumerate(entries)
    ]
    content = flatbuffer({"subgraph_metadata": [{"custom_metadata": values}]})
    found = read(described(content))
    assert found is not None
    expected = {str(number): parsed for number, (_, parsed) in enumerate(entries)}
    assert found.custom == expected

  def test_more_tensors_described_than_there_are(self):
    values = {"input_tensor_metadata": [{"name": "a"}, {"name": "b"}]}
    found = read(described(flatbuffer({"subgraph_metadata": [values]})))
    assert found is not None
    assert [tensor.name for tensor in found.inputs] == ["a"]

  def test_invalid_text_is_replaced(self):
    content = flatbuffer({"name": "abc"}).replace(b"abc", b"a\xffc")
    found = read(described(content))
    assert found is not None
    assert found.name == "a�c"


class TestDamage:
  def test_another_identifier(self):
    with pytest.raises(InputError, match="identifier b'M002' instead of b'M001'"):
      read(described(flatbuffer({}, b"M002")))

  @pytest.mark.parametrize("content", [b"", b"\0", b"\xff\xff\xff\x7fM001"])
  def test_no_flatbuffer(self, content):
    with pytest.raises(InputError):
      read(described(content))

  def test_buffer_out_of_range(self):
    model = read_model(models.converted("fp32_dense"))
    model.metadata.append(schema.MetadataT(name=b"TFLITE_METADATA", buffer=999))
    with pytest.raises(InputError, match="buffer 999 of"):
      read(write_model(model))

  def test_parts_claimed_many_times_over(self):
    builder = flatbuffers.Builder(1024)
    name = builder.CreateString("x" * 50_000)
    builder.StartObject(7)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    tensor = builder.EndObject()
    tensors = files.vector_of(builder, start_vector, tensor, 10_000)
    builder.StartObject(10)
    builder.PrependUOffsetTRelativeSlot(3, tensors, 0)
    subgraph = builder.EndObject()
    subgraphs = files.vector_of(builder, start_vector, subgraph, 1)
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(3, subgraphs, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"M001")
    model = read_model(described(bytes(builder.Output())))
    # The budget is for what is looked at: as many outputs as metadata.
    model.subgraphs[0].outputs = [0] * 10_000
    with pytest.raises(InputError, match="metadata claim more than its bytes"):
      read(write_model(model))

  def test_labels_claimed_many_times_over(self):
    labelled = {"associated_files": [LABELS]}
    values = {"subgraph_metadata": [{"output_tensor_metadata": [labelled] * 50}]}
    model = read_model(described(flatbuffer(values)))
    model.subgraphs[0].outputs = [0] * 50
    packed = associated_files.append(write_model(model), {"names.txt": b"a" * 100_000})
    with pytest.raises(InputError, match="labels have more than 4,194,304 bytes"):
      read(packed)

  def test_mutated_metadata_are_read_or_refused(self):
    content = attach(models.converted("fp32_dense"), description())
    start = content.index(b"M001") - 4
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
      damaged = np.frombuffer(content, np.uint8).copy()
      places = generator.integers(start, len(damaged), 8)
      damaged[places] = generator.choice([0, 1, 127, 128, 255], len(places))
      try:
        read(damaged.tobytes())
      except InputError as error:
        refused += 1
        assert "\n" not in str(error)
    assert refused > 50

  def test_truncated(self):
    content = attach(models.converted("fp32_dense"), description())
    for size in np.linspace(0, len(content) - 1, 50).astype(int):
      try:
        read(content[:size])
      except InputError as error:
        assert "\n" not in str(error)


def start_vector(builder, count):
  builder.StartVector(4, count, 4)
