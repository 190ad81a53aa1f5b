"""Names the functions of TFLM that register a model's operators.

Source: TFLM's `tensorflow/lite/micro/micro_mutable_op_resolver.h`.
"""

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from fedtiny_tff.errors import InputError
from tflite_export.decode import tflm_insert
from tflite_export.file_format import flatbuffer_model

_OPERATOR_NAMES = {
  code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()
}
# Every other function is Add + the operator's name in camel case: CONV_2D, AddConv2D.
_IRREGULAR_FUNCTIONS = {
  "BATCH_MATMUL": "AddBatchMatMul",
  "CUMSUM": "AddCumSum",
  "PADV2": "AddPadV2",
  "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
}
_TFLM_OPERATOR_NAMES = """
  ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL
  BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION
  CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
  DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV
  FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF
  L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT
  LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
  NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX
  REDUCE_MIN RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2
  ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT
  SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH
  TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE
  ZEROS_LIKE
"""
_TFLM_OPERATORS = frozenset(_TFLM_OPERATOR_NAMES.split())


def resolver_functions(model_bytes: bytes) -> tuple[str, ...]:
  """Returns the `Add...` functions for a file's operators, sorted.

  Raises:
    InputError: A damaged file, or an operator TFLM has no kernel for.
  """
  return used_functions(flatbuffer_model.read_model(model_bytes))


def used_functions(model: Any) -> tuple[str, ...]:
  """Returns the `Add...` function of each operator that some subgraph runs."""
  used = set()
  for subgraph in model.subgraphs:
    for operator in subgraph.operators:
      code = flatbuffer_model.operator_code(model, operator)
      custom = model.operatorCodes[operator.opcodeIndex].customCode or b""
      used.add(_function(code, custom.decode("utf-8", errors="replace")))
  return tuple(sorted(used))


def _function(code: int, custom: str) -> str:
  """Returns the resolver's function for one operator."""
  if code == schema.BuiltinOperator.CUSTOM and custom == tflm_insert.DECODE_OPERATOR:
    return "AddDecode"
  name = _OPERATOR_NAMES.get(code, f"number {code}")
  if name not in _TFLM_OPERATORS:
    raise InputError(
      f"TFLM has no kernel for operator {custom or name}; use layers that convert to "
      "others, or write the kernel and register it by hand"
    )
  camel = "".join(
    part if part[0].isdigit() else part.capitalize() for part in name.split("_")
  )
  return _IRREGULAR_FUNCTIONS.get(name, f"Add{camel}")
