"""The full-integer file of a request, however its accuracy is kept."""

from tflite_export.artifacts import ExportRequest
from tflite_export.conversion import output_meaning
from tflite_export.conversion.convert import convert
from tflite_export.conversion.convert_quantised import convert_quantised


def full_integer(request: ExportRequest) -> bytes:
  """Returns the `int8_dense` file.

  Of the model that was trained with quantisation where there is one; else the float
  model is quantised with the request's calibration.

  Raises:
    InputError: The model or the calibration cannot be used.
    VerificationError: Training with quantisation left a masked weight that is not zero.
  """
  name = output_meaning.signature_name(request)
  trained = request.quantisation_aware_model
  if trained is not None:
    return convert_quantised(trained, request.masks, output_name=name)
  return convert(request.model, "int8_dense", request.calibration, name)
