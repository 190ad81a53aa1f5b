import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from tests.tflite_export import files, models
from tflite_export.file_format.flatbuffer_model import read_model
from tflite_export.file_format.model_tensors import (
  SignatureFacts,
  signatures,
  tensor_facts,
)


def test_signature():
  model = read_model(models.converted("fp32_dense"))
  assert signatures(model) == (
    SignatureFacts("serving_default", ("inputs",), ("logits",)),
  )


def test_tensors_are_those_the_runtime_reports():
  content = models.converted("int8_dense")
  (source,), (target,) = tensor_facts(read_model(content))
  assert (source.name, target.name) == ("inputs", "logits")
  assert source.signature == target.signature == "serving_default"
  interpreter = litert.Interpreter(model_content=content)
  (told,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
  for facts, details in ((source, told), (target, made)):
    assert facts.tensor_name == details["name"]
    assert facts.shape == tuple(details["shape"])
    assert np.dtype(facts.dtype) == details["dtype"]
    assert (facts.scale[0], facts.zero_point[0]) == details["quantization"]


def test_without_signature_tensors_have_their_own_names():
  model = files.one_layer()
  (source,), (target,) = tensor_facts(read_model(files.written(model)))
  assert (source.name, source.signature) == ("tensor", None)
  assert (source.shape, source.dtype) == ((1, files.WIDTH), "int8")
  assert target.zero_point == (3,)


def test_signatures_of_other_subgraphs_name_nothing():
  model = files.one_layer()
  model.subgraphs *= 2
  entry = schema.TensorMapT(name=b"fed", tensorIndex=1)
  model.signatureDefs = [
    schema.SignatureDefT(
      inputs=[entry], outputs=[], signatureKey=b"other", subgraphIndex=1
    )
  ]
  model = read_model(files.written(model))
  assert tensor_facts(model)[0][0].name == "tensor"
  assert signatures(model) == (SignatureFacts("other", ("fed",), ()),)


def test_unknown_type_and_lacking_shape_and_name():
  model = files.one_layer()
  tensor = model.subgraphs[0].tensors[1]
  tensor.type, tensor.shape, tensor.name, tensor.quantization = 99, None, None, None
  (facts,), _ = tensor_facts(read_model(files.written(model)))
  assert (facts.dtype, facts.shape, facts.name) == ("type 99", (), "")
  assert (facts.scale, facts.zero_point) == ((), ())
