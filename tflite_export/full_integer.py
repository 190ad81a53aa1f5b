"""The full-integer file of a request, however its accuracy is kept."""

from tflite_export.artifacts import ExportRequest
from tflite_export.convert import convert
from tflite_export.convert_quantised import convert_quantised


def full_integer(request: ExportRequest) -> bytes:
  """Returns the `int8_dense` file.

  Of the model that was trained with quantisation where there is one; else the float
  model is quantised with the request's calibration.

  Raises:
    InputError: The model or the calibration cannot be used.
    VerificationError: Training with quantisation left a masked weight that is not zero.
  """
  if request.quantisation_aware_model is not None:
    return convert_quantised(request.quantisation_aware_model, request.masks)
  return convert(request.model, "int8_dense", request.calibration)
