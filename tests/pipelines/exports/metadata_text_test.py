import dataclasses

import pytest

from pipelines.exports import metadata_text
from tflite_export.file_format.model_tensors import SignatureFacts, TensorFacts
from tflite_export.metadata.model_metadata_reader import ModelMetadata, TensorMetadata

FED = TensorFacts(
  "inputs", "serve", "serve_inputs:0", (1, 8, 8, 3), "int8", (0.5,), (-3,)
)
MADE = TensorFacts("logits", "serve", "out", (1, 7), "float32", (), ())
WHOLE = ModelMetadata(
  name="digits",
  description="Tells digits apart.",
  version="2",
  author=None,
  licence="MIT",
  min_parser_version="1.5.0",
  signatures=(SignatureFacts("serve", ("inputs",), ("logits",)),),
  inputs=(TensorMetadata(FED, "inputs", "A digit.", mean=(128.0,), deviation=(64.5,)),),
  outputs=(TensorMetadata(MADE, labels=tuple("abcdefg")),),
  files=("labels.txt",),
  custom={"fedtiny_tff": {"method": "fedtiny", "density": 0.1, "input": {"a": 1}}},
)


def test_all_that_is_told():
  assert metadata_text.lines(WHOLE) == [
    "Metadata: digits (version 2, licence MIT)",
    "  Tells digits apart.",
    "  signature serve: inputs → logits",
    "  input inputs: 1×8×8×3 int8; scale 0.5, zero point -3; "
    "fed (value - 128) / 64.5; A digit.",
    "  output logits: 1×7 float32; 7 labels: a, b, c, d, e, …",
    "  fedtiny_tff: method fedtiny, density 0.1",
  ]


def test_nothing_told():
  silent = ModelMetadata(
    None, None, None, None, None, None, (), (), (), (), {"x": None}
  )
  assert metadata_text.lines(silent) == [
    "Metadata: without a name",
    "  x: not known to this command",
  ]


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"scale": (0.5, 0.25), "zero_point": (0, 0)}, "2 scales"),
    ({"zero_point": ()}, "scale 0.5, zero point 0"),
  ],
)
def test_quantisation(changes, said):
  tensor = TensorMetadata(dataclasses.replace(FED, **changes))
  whole = dataclasses.replace(WHOLE, inputs=(tensor,))
  assert any(said in line for line in metadata_text.lines(whole))


def test_normalisation_per_channel_and_without_mean():
  tensor = TensorMetadata(FED, mean=(1.0, 2.0), deviation=None)
  whole = dataclasses.replace(WHOLE, inputs=(tensor,))
  assert any("fed (value - [1, 2]) / []" in line for line in metadata_text.lines(whole))
