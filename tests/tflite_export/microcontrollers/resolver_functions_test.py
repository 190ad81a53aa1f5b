import re

import pytest
from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tests.tflite_export.files import chain, one_layer, sparse_values, written
from tflite_export.decode.tflm_decode import encode_pruned
from tflite_export.microcontrollers import resolver_functions as module
from tflite_export.microcontrollers.resolver_functions import resolver_functions


def test_exactly_the_operators_used():
  file = encode_pruned(models.converted("int8_dense", 0.1)).model_bytes
  assert resolver_functions(file) == (
    "AddAdd",
    "AddConv2D",
    "AddDecode",
    "AddDepthwiseConv2D",
    "AddFullyConnected",
    "AddMean",
    "AddPad",
  )


def test_an_operator_is_not_registered_twice():
  dense = written(chain([sparse_values()], [(1, 0)], [0, 0, 0]))
  assert resolver_functions(dense) == ("AddFullyConnected",)


@pytest.mark.parametrize(
  ("operator", "function"),
  [
    ("AVERAGE_POOL_2D", "AddAveragePool2D"),
    ("BATCH_TO_SPACE_ND", "AddBatchToSpaceNd"),
    ("BATCH_MATMUL", "AddBatchMatMul"),
    ("CUMSUM", "AddCumSum"),
    ("L2_POOL_2D", "AddL2Pool2D"),
    ("PADV2", "AddPadV2"),
    ("RELU6", "AddRelu6"),
    ("SELECT_V2", "AddSelectV2"),
    ("SPLIT_V", "AddSplitV"),
    ("UNIDIRECTIONAL_SEQUENCE_LSTM", "AddUnidirectionalSequenceLSTM"),
  ],
)
def test_names_of_upstream(operator, function):
  code = getattr(schema.BuiltinOperator, operator)
  assert resolver_functions(with_code(code)) == (function,)


def test_every_known_operator_gives_an_identifier():
  for operator in module._TFLM_OPERATORS:
    code = getattr(schema.BuiltinOperator, operator)
    (function,) = resolver_functions(with_code(code))
    assert re.fullmatch(r"Add[A-Z][A-Za-z0-9]*", function)


@pytest.mark.parametrize("operator", ["DENSIFY", "RFFT2D", "STABLEHLO_ADD"])
def test_operator_tflm_does_not_know(operator):
  code = getattr(schema.BuiltinOperator, operator)
  with pytest.raises(InputError, match=operator):
    resolver_functions(with_code(code))


def test_custom_operator_of_someone_else():
  file = with_code(schema.BuiltinOperator.CUSTOM, custom="Mine")
  with pytest.raises(InputError, match="operator Mine"):
    resolver_functions(file)


def test_number_outside_the_schema():
  with pytest.raises(InputError, match="number 9999"):
    resolver_functions(with_code(9999))


def with_code(code, custom=None):
  model = one_layer()
  model.operatorCodes[0].builtinCode = code
  model.operatorCodes[0].deprecatedBuiltinCode = min(code, 127)
  model.operatorCodes[0].customCode = custom
  return written(model)
