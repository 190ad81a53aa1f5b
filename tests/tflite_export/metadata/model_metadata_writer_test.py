"""The flatbuffer as a decoder sees it that follows the schema's declarations."""

import json

import numpy as np
import pytest

from tests.tflite_export import metadata_schema, models
from tests.tflite_export.descriptions import description
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.file_format.model_tensors import tensor_facts
from tflite_export.metadata.model_metadata_writer import pack


def packed(said=None, format="fp32_dense"):
  (source,), (target,) = tensor_facts(read_model(models.converted(format)))
  return pack(said or description(), source, target)


def decoded(said=None, format="fp32_dense"):
  return metadata_schema.decode(packed(said, format))


def custom_of(found):
  (custom,) = found["subgraph_metadata"][0]["custom_metadata"]
  assert custom["name"] == "fedtiny_tff"
  return json.loads(custom["data"])


def test_every_field():
  found = decoded()
  (subgraph,) = found.pop("subgraph_metadata")
  assert found == {
    "name": "small_classifier",
    "description": "Tells colours apart, pruned while it was trained in a federation.",
    "version": "1",
    "author": "FedTiny-TFF",
    "license": "Apache-2.0",
    "min_parser_version": "1.5.0",
  }
  assert subgraph["input_tensor_metadata"] == [
    {
      "name": "inputs",
      "description": "Image, 16×16, RGB.",
      "content": {
        "content_properties_type": "ImageProperties",
        "content_properties": {"color_space": 1},
      },
      "process_units": [
        {
          "options_type": "NormalizationOptions",
          "options": {"mean": [128.0, 64.0, 32.0], "std": [64.0, 32.0, 16.0]},
        }
      ],
      # (0 - 128) / 64 and (255 - 128) / 64, and so on.
      "stats": {"min": [-2.0, -2.0, -2.0], "max": [1.984375, 5.96875, 13.9375]},
    }
  ]
  assert subgraph["output_tensor_metadata"] == [
    {
      "name": "logits",
      "description": "One logit per class.",
      "content": {
        "content_properties_type": "FeatureProperties",
        "content_properties": {},
      },
      "associated_files": [
        {"name": "labels.txt", "description": "Class names, one a line.", "type": 2}
      ],
    }
  ]


def test_what_the_schema_has_no_field_for():
  assert custom_of(decoded()) == {
    "product": "fedtiny-tff 0.1.0",
    "task": "classify",
    "method": "fedtiny",
    "format": "fp32_sparse",
    "density": 0.2,
    "signature": "serving_default",
    "input": {"type": "float32", "range": [0.0, 255.0]},
    "output": {"type": "float32"},
  }


def test_quantisation_is_that_of_the_file():
  (source,), (target,) = tensor_facts(read_model(models.converted("int8_dense")))
  found = decoded(format="int8_dense")
  custom = custom_of(found)
  assert custom["input"] == {
    "type": "int8",
    "scale": list(source.scale),
    "zero_point": list(source.zero_point),
    "range": [0.0, 255.0],
  }
  assert custom["output"]["scale"] == list(target.scale)
  stats = found["subgraph_metadata"][0]["input_tensor_metadata"][0]["stats"]
  assert stats == {"min": [-128.0], "max": [127.0]}


@pytest.mark.parametrize(
  ("changes", "absent"),
  [({"value_range": None}, "stats"), ({"class_names": ()}, "associated_files")],
)
def test_what_is_not_known_is_left_out(changes, absent):
  (subgraph,) = decoded(description(**changes))["subgraph_metadata"]
  tensors = subgraph["input_tensor_metadata"] + subgraph["output_tensor_metadata"]
  assert not any(absent in tensor for tensor in tensors)
  (whole,) = decoded()["subgraph_metadata"]
  tensors = whole["input_tensor_metadata"] + whole["output_tensor_metadata"]
  assert any(absent in tensor for tensor in tensors)


def test_an_input_that_is_no_image():
  (subgraph,) = decoded(description(image_input=False))["subgraph_metadata"]
  content = subgraph["input_tensor_metadata"][0]["content"]
  assert content["content_properties_type"] == "FeatureProperties"


def test_custom_data_start_at_a_multiple_of_16():
  content = packed()
  assert content.index(b'{"product"') % 16 == 0
  assert len(content) % 16 == 0


def test_same_description_same_bytes():
  assert packed() == packed()
  assert packed() != packed(description(density=0.21))


def test_one_value_of_normalisation_for_all_channels():
  found = decoded(description(mean=(127.5,), deviation=(127.5,)))
  (tensor,) = found["subgraph_metadata"][0]["input_tensor_metadata"]
  np.testing.assert_allclose(tensor["stats"]["min"], [-1.0])
  np.testing.assert_allclose(tensor["stats"]["max"], [1.0])
