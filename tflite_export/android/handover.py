"""What a mobile team gets beside the model: labels, card, code, preprocessing."""

import dataclasses
from collections.abc import Mapping

from tflite_export.android import android_snippets, recommendation, signal_file
from tflite_export.android.model_card import model_card
from tflite_export.arm64.arm64_verify import Arm64Figures
from tflite_export.artifacts import ExportBundle, ExportRequest
from tflite_export.conversion import output_meaning
from tflite_export.texts import preprocessing_texts
from tflite_export.texts.labels import clean_labels
from tflite_export.xnnpack import eligibility

_FOLDER = "android"


def with_handover(
  bundle: ExportBundle,
  request: ExportRequest,
  arm64: Mapping[str, Arm64Figures],
) -> ExportBundle:
  """Returns Android files with all that belongs to them.

  Args:
    bundle: The verified files.
    request: What they were made from.
    arm64: Figures of each file under emulated ARM64, by path; may be empty.

  Returns:
    The bundle with what to ship first, `labels.txt` (where there are classes),
    `model_card.md`, a class in Kotlin and in Java, and `preprocessing.json` where
    preprocessing is known; for signals also `preprocessing.tflite`, which does it.

  Raises:
    InputError: Preprocessing of signals cannot be converted.
    VerificationError: Its file computes something else.
  """
  paths = [artifact.path for artifact in bundle.artifacts]
  reports = {path: eligibility.inspect(bundle.files[path]) for path in paths}
  labels = clean_labels(request.class_names) if request.task.has_classes else None
  texts = android_snippets.snippets(
    request.provenance.name,
    android_snippets.read_interface(bundle.files[paths[0]]),
    request.provenance.preprocessing,
    labels,
    output_meaning.meaning(request),
    preprocessing_texts.raw_values(request.provenance, request.calibration),
  )
  eligible = {path: report.eligible for path, report in reports.items()}
  chosen, why = recommendation.recommended(bundle.artifacts, eligible)
  bundle = dataclasses.replace(bundle, recommended=chosen.path)
  card = model_card(request, bundle, reports, arm64, list(texts), why)
  texts["model_card.md"] = card
  added = {name: text.encode() for name, text in texts.items()} | data_files(request)
  placed = {f"{_FOLDER}/{name}": content for name, content in added.items()}
  return dataclasses.replace(bundle, files={**bundle.files, **placed})


def data_files(request: ExportRequest) -> dict[str, bytes]:
  """Returns what says how a model is fed, and what its classes are called.

  Returns:
    File name to content: `labels.txt` where there are classes, `preprocessing.json`
    where preprocessing is known; for signals also `preprocessing.tflite`.

  Raises:
    InputError: Preprocessing of signals cannot be converted.
    VerificationError: Its file computes something else.
  """
  found: dict[str, bytes] = {}
  shape = tuple(request.model.inputs[0].shape[1:])
  declared = preprocessing_texts.declaration(request.provenance, shape)
  if declared is not None:
    found[preprocessing_texts.NAME] = declared.encode()
  if request.task.has_classes:
    labels = clean_labels(request.class_names)
    found["labels.txt"] = "".join(f"{label}\n" for label in labels).encode()
  known = request.provenance.preprocessing
  made = None if known is None else signal_file.signal_file(known)
  if made is not None:
    found[signal_file.NAME] = made
  return found
