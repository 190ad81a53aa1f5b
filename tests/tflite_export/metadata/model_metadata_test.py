import dataclasses

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert_interpreter
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from tests.tflite_export import files, models
from tests.tflite_export.descriptions import description
from tests.tflite_export.processes import loaded_by
from tflite_export.conversion.sparsify import sparsify
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.file_format.flatbuffer_writer import write_model
from tflite_export.metadata import model_metadata_reader
from tflite_export.metadata.model_metadata import attach
from tflite_export.runtimes import litert

FORMATS = ("fp32_dense", "fp32_sparse", "int8_dense", "dynamic_range_dense")


def read(content):
  """Returns metadata that must be there."""
  found = model_metadata_reader.read(content)
  assert found is not None
  return found


def entries(content):
  """Returns name and data of each metadata entry."""
  model = read_model(content)
  return [
    (entry.name.decode(), bytes(model.buffers[entry.buffer].data))
    for entry in model.metadata
  ]


def classifier(classes):
  """Returns a file of one dense layer without names, float32 [1, 2] to [1, classes]."""
  weight = files.tensor([classes, 2], buffer=1)
  return files.one_operator(
    schema.BuiltinOperator.FULLY_CONNECTED,
    [files.tensor([1, 2]), weight, files.tensor([1, classes])],
    [0, 1, -1],
    [2],
    np.zeros(2 * classes, np.float32),
  )


def with_input(content):
  """Returns the file with tensor 0 as its graph's input."""
  model = read_model(content)
  model.subgraphs[0].inputs = [0]
  return write_model(model)


class TestFile:
  @pytest.mark.parametrize("format", FORMATS)
  def test_outputs_stay_the_same(self, format):
    content = models.converted(format)
    described = attach(content, description())
    inputs = models.random_inputs(8)
    np.testing.assert_array_equal(
      litert.run(described, inputs), litert.run(content, inputs)
    )

  @pytest.mark.parametrize("format", FORMATS)
  def test_size(self, format):
    content = models.converted(format)
    ten = attach(with_input(classifier(10)), ten_classes())
    assert len(ten) - len(with_input(classifier(10))) <= 2048
    assert len(attach(content, description())) - len(content) <= 2048

  def test_buffers_stay_aligned(self):
    content = attach(models.converted("int8_dense"), description())
    root = schema.Model.GetRootAs(content, 0)
    starts = [
      data.ctypes.data - np.frombuffer(content, np.uint8).ctypes.data
      for number in range(root.BuffersLength())
      if isinstance(data := root.Buffers(number).DataAsNumpy(), np.ndarray)
    ]
    assert len(starts) > 3
    assert all(start % 16 == 0 for start in starts)

  def test_signature_stays(self):
    content = attach(models.converted("fp32_sparse"), description())
    interpreter = litert_interpreter.Interpreter(model_content=content)
    signature = {"serving_default": {"inputs": ["inputs"], "outputs": ["logits"]}}
    assert interpreter.get_signature_list() == signature

  def test_storing_sparse_keeps_the_metadata(self):
    described = attach(models.converted("fp32_dense"), description())
    sparse = sparsify(described)
    assert len(sparse) < len(described)
    assert read(sparse) == read(described)
    assert read(sparse).outputs[0].labels[3] == "rosé"


def ten_classes():
  return description(
    image_input=False,
    mean=(0.3,),
    deviation=(0.38,),
    class_names=tuple(f"class name {number}" for number in range(10)),
  )


class TestEntries:
  def test_other_entries_stay(self):
    content = models.converted("fp32_dense")
    before = entries(content)
    assert [name for name, _ in before][:1] == ["min_runtime_version"]
    after = entries(attach(content, description()))
    assert after[:-1] == before
    assert after[-1][0] == "TFLITE_METADATA"

  def test_attaching_again_changes_nothing(self):
    once = attach(models.converted("fp32_dense"), description())
    assert attach(once, description()) == once

  def test_earlier_metadata_are_replaced(self):
    content = models.converted("fp32_dense")
    long = attach(content, description(name="x" * 999, class_names=("a",) * 4))
    assert attach(long, description()) == attach(content, description())

  def test_several_earlier_ones_become_one(self):
    model = read_model(attach(models.converted("fp32_dense"), description()))
    model.metadata.append(model.metadata[-1])
    content = attach(write_model(model), description(name="new"))
    assert [name for name, _ in entries(content)].count("TFLITE_METADATA") == 1
    assert read(content).name == "new"

  def test_a_buffer_that_a_weight_shares_is_left_alone(self):
    content = models.converted("fp32_dense")
    model = read_model(content)
    weight = max(model.subgraphs[0].tensors, key=lambda t: len(data_of(model, t)))
    entry = schema.MetadataT(name=b"TFLITE_METADATA", buffer=weight.buffer)
    model.metadata.append(entry)
    inputs = models.random_inputs(4)
    described = attach(write_model(model), description())
    np.testing.assert_array_equal(
      litert.run(described, inputs), litert.run(content, inputs)
    )

  def test_entry_without_data_gets_some(self):
    model = read_model(models.converted("fp32_dense"))
    model.metadata.append(schema.MetadataT(name=b"TFLITE_METADATA", buffer=0))
    content = attach(write_model(model), description())
    assert read(content).name == "small_classifier"


def data_of(model, tensor):
  data = model.buffers[tensor.buffer].data
  return b"" if data is None else data


class TestRefused:
  @pytest.mark.parametrize(
    ("changes", "said"),
    [
      ({"class_names": ("a", "b")}, "2 class names for 4 outputs"),
      ({"mean": (1.0, 2.0)}, "mean has 2 values for input shape"),
      ({"deviation": (1.0,) * 4}, "deviation has 4 values"),
      ({"name": "\ud800"}, "not valid Unicode"),
      ({"class_names": ("\ud800",) * 4}, "not valid Unicode"),
    ],
  )
  def test_description_that_does_not_fit(self, changes, said):
    with pytest.raises(InputError, match=said):
      attach(models.converted("fp32_dense"), description(**changes))

  def test_vector_that_is_called_an_image(self):
    with pytest.raises(InputError, match=r"shape \[1, 2\] is no image"):
      attach(with_input(classifier(4)), description(mean=(0.0,), deviation=(1.0,)))

  def test_two_outputs(self):
    model = read_model(models.converted("fp32_dense"))
    model.subgraphs[0].outputs = [*model.subgraphs[0].outputs, 3]
    with pytest.raises(InputError, match="1 inputs and 2 outputs"):
      attach(write_model(model), description())

  def test_weights_behind_the_model(self):
    model = read_model(models.converted("fp32_dense"))
    model.buffers[1].offset, model.buffers[1].size = 64, 4
    with pytest.raises(InputError, match="weights behind its model"):
      attach(files.written(model), description())

  def test_damaged_files(self):
    content = np.frombuffer(attach(models.converted("fp32_dense"), description()), "u1")
    generator = np.random.default_rng(1)
    for _ in range(100):
      damaged = content.copy()
      places = generator.integers(8, len(damaged), 20)
      damaged[places] = generator.integers(0, 256, len(places))
      try:
        attach(damaged.tobytes(), description())
      except InputError as error:
        assert "\n" not in str(error)


line = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(
  st.lists(line, min_size=1, max_size=8),
  st.tuples(line, line, line, line),
  st.floats(0, 1),
  st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2),
)
@settings(max_examples=60, deadline=None)
def test_what_is_attached_is_read_back(names, texts, density, mean):
  said = description(
    name=texts[0],
    description=texts[1],
    author=texts[2],
    licence=texts[3],
    density=density,
    class_names=tuple(names),
    image_input=False,
    mean=tuple(mean),
    deviation=(0.5,),
    value_range=None,
  )
  found = read(attach(with_input(classifier(len(names))), said))
  assert (found.name, found.description, found.author, found.licence) == texts
  assert found.outputs[0].labels == said.class_names
  assert (found.inputs[0].mean, found.inputs[0].deviation) == (said.mean, (0.5,))
  assert found.inputs[0].least is None
  custom = found.custom["fedtiny_tff"]
  assert custom is not None
  assert custom["density"] == density


def test_a_thousand_labels_and_none():
  names = tuple(f"{number} größe" for number in range(1000))
  plain = description(image_input=False, mean=(0.0,), deviation=(1.0,))
  for classes in (names, ()):
    said = dataclasses.replace(plain, class_names=classes)
    found = read(attach(with_input(classifier(1000)), said))
    assert found.outputs[0].labels == (classes or None)
    assert found.files == (("labels.txt",) if classes else ())


def test_importing_it_loads_no_tensorflow():
  modules = (
    "tflite_export.metadata.model_metadata",
    "tflite_export.metadata.model_metadata_reader",
  )
  assert loaded_by(modules, ("tensorflow",)) == []
