"""Exports a sparse model for microcontrollers that run TFLM.

Firmware gets the file whose pruned tensors are stored compactly, as C++ sources; its
dense twin, the converter's own file, says what that gained. Both are run in TFLM here,
and nothing is returned unless they compute the same integers and the first keeps within
the memory there is.
"""

import dataclasses
from collections.abc import Sequence
from typing import Optional

from fedtiny_tff.data.preprocessing import Preprocessing
from tflite_export.artifacts import Artifact, ExportBundle, ExportRequest
from tflite_export.conversion.convert_mcu import McuSettings, convert_mcu
from tflite_export.conversion.convert_quantised import convert_quantised
from tflite_export.microcontrollers import golden_vectors, mcu_budget, mcu_scores
from tflite_export.microcontrollers.c_source import c_sources
from tflite_export.microcontrollers.mcu_readme import Handover, readme
from tflite_export.microcontrollers.mcu_verify import (
  DENSE_PATH,
  MODEL_PATH,
  VerifiedPair,
  verify,
)
from tflite_export.microcontrollers.resolver_functions import resolver_functions
from tflite_export.runtimes import tflm
from tflite_export.texts import preprocessing_texts


def export_mcu(request: ExportRequest) -> ExportBundle:
  """Converts, encodes, verifies and writes firmware sources.

  Args:
    request: The model; its outputs are compared on `evaluation_inputs`.

  Returns:
    `mcu/model.tflite` (format int8_decode, or as the options say),
    `mcu/model_dense.tflite` (int8_dense), C++ sources of the first, `mcu/README.md` and,
    where preprocessing is known, `mcu/preprocessing.json`.

  Raises:
    InputError: The model or the data cannot be exported.
    VerificationError: A file does not load in TFLM, the two differ in an output or a
      decoded weight, or a masked weight is not zero.
    BudgetError: The file needs more flash or RAM than the options allow.
  """
  settings = McuSettings(request.mcu.activation_bits, request.mcu.float_ends)
  converted = _converted(request, settings)
  # Before TFLM refuses the whole file: an operator it lacks is the model's fault.
  resolver_functions(converted)
  verified = verify(request, converted)
  class_names = request.class_names if request.task.has_classes else None
  preprocessing = request.provenance.preprocessing
  shape = tuple(request.model.inputs[0].shape[1:])
  layout = preprocessing_texts.layout(request.provenance, shape)
  scores = mcu_scores.scores(verified.encoded.model_bytes, request)
  found, dense = _footprints(verified, class_names, preprocessing)
  mcu_budget.check(found, dense, request.mcu)
  texts = c_sources(
    verified.encoded.model_bytes,
    class_names,
    verified.arena.recommended_bytes,
    preprocessing,
    layout,
    scores,
  )
  classes = len(class_names or ())
  handover = Handover(
    settings, request.mcu, found, dense, classes, preprocessing, layout, scores
  )
  texts |= golden_vectors.sources(verified.encoded.model_bytes)
  texts["README.md"] = readme(verified, handover)
  declared = preprocessing_texts.declaration(request.provenance, shape)
  if declared is not None:
    texts[preprocessing_texts.NAME] = declared
  return ExportBundle(
    files={
      MODEL_PATH: verified.encoded.model_bytes,
      DENSE_PATH: verified.dense_bytes,
      **{f"mcu/{name}": text.encode("utf-8") for name, text in texts.items()},
    },
    artifacts=_artifacts(verified, settings),
  )


def _converted(request: ExportRequest, settings: McuSettings) -> bytes:
  """Returns the converter's file.

  A model that was trained with the rounding of int8 has nothing to offer for 16 bits.
  """
  trained = request.quantisation_aware_model
  if trained is None or settings.activation_bits != 8:
    return convert_mcu(request.model, request.calibration, settings)
  return convert_quantised(trained, request.masks, settings.float_ends)


def _footprints(
  verified: VerifiedPair,
  class_names: Optional[Sequence[str]],
  preprocessing: Optional[Preprocessing],
) -> tuple[mcu_budget.Footprint, mcu_budget.Footprint]:
  """Returns what firmware needs for the encoded and for the dense file."""
  encoded, dense = (
    mcu_budget.footprint(content, arena, class_names, preprocessing)
    for content, arena in (
      (verified.encoded.model_bytes, verified.arena),
      (verified.dense_bytes, verified.dense_arena),
    )
  )
  kept = mcu_budget.dense_for_ram_bytes(verified.encoded)
  return dataclasses.replace(encoded, dense_for_ram_bytes=kept), dense


def _artifacts(verified: VerifiedPair, settings: McuSettings) -> tuple[Artifact, ...]:
  """Returns the report rows of both files."""
  dense_bytes, size = len(verified.dense_bytes), len(verified.encoded.model_bytes)
  rows = (
    (MODEL_PATH, f"{settings.name}_decode", size, verified.arena),
    (DENSE_PATH, f"{settings.name}_dense", dense_bytes, verified.dense_arena),
  )
  return tuple(
    Artifact(
      path=path,
      target="mcu",
      format=format,
      bytes=size,
      dense_bytes=dense_bytes,
      density=verified.density,
      accuracy=verified.comparison.accuracy,
      class_accuracy=verified.comparison.class_accuracy,
      auc=verified.comparison.auc,
      argmax_agreement=verified.comparison.argmax_agreement,
      max_abs_error=verified.comparison.max_abs_error,
      runtime=tflm.runtime_name(),
      arena_bytes=arena.recommended_bytes,
    )
    for path, format, size, arena in rows
  )
