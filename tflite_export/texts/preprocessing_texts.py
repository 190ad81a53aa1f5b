"""What becomes of raw examples, for programs and for readers of the model card.

Of `preprocessing.json`, `fedtiny_tff.data.preprocessing.Preprocessing.from_json` reads
what is under "preprocessing".
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

import numpy as np

from fedtiny_tff.arrays import Array
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing
from tflite_export.provenance import Provenance
from tflite_export.texts import raw_layout

if TYPE_CHECKING:
  from tflite_export.file_format.activation_ranges import ActivationRanges

NAME = "preprocessing.json"
FORMAT = "fedtiny-tff preprocessing"
VERSION = 1
_IMAGE_RANK = 3
# Range of values that is known of all that was calibrated on: least and largest.
Ends = tuple[float, float]


def raw_shape(
  preprocessing: Preprocessing, input_shape: Sequence[int]
) -> tuple[Optional[int], ...]:
  """Returns the shape of a raw example; None for sizes that are left open.

  Args:
    preprocessing: What is done to it.
    input_shape: Shape of one input of the model.
  """
  extraction = preprocessing.extraction
  if extraction.raw_shape is not None:
    return extraction.raw_shape
  if isinstance(extraction, Resize):
    return (None, None, 3 if extraction.grey else input_shape[-1])
  return tuple(input_shape)


def stored_range(provenance: Provenance) -> Optional[Ends]:
  """Returns the least and largest stored value by declaration: of bytes alone.

  The scale brings them to [0, 1]; digits, for one, end at 16.
  """
  known = provenance.preprocessing
  if known is None or provenance.feature_type != "uint8":
    return None
  return 0.0, 1 / known.scale


def _raw_range(provenance: Provenance) -> Optional[Ends]:
  """Returns the same of raw examples."""
  known = provenance.preprocessing
  if known is not None and known.extraction.of_signal:
    return -1.0, 1.0
  if known is not None and isinstance(known.extraction, Resize):
    return 0.0, 255.0
  return stored_range(provenance)


def _seen_range(
  provenance: Provenance, calibration: "Array | ActivationRanges"
) -> Optional[Ends]:
  """Returns the least and largest raw value, else input, of calibration samples.

  None where there are none, or where raw examples are not what was stored.
  """
  known = provenance.preprocessing
  if not isinstance(calibration, np.ndarray) or not calibration.size:
    return None
  values = calibration
  if known is not None:
    if known.extraction.kind != "none":
      return None
    raw = values.astype(np.float64) * np.asarray(known.deviation)
    values = (raw + np.asarray(known.mean)) / known.scale
  low, high = float(values.min()), float(values.max())
  # What is left of rounding to float32 is no value of its own.
  small = 1e-5 * max(abs(low), abs(high))
  return (0.0 if abs(low) < small else low), (0.0 if abs(high) < small else high)


def raw_values(provenance: Provenance, calibration: "Array | ActivationRanges") -> str:
  """Says which values raw examples have, after "values".

  Args:
    provenance: What is known of the model.
    calibration: As in `ExportRequest`: never test data.
  """
  declared, seen = _raw_range(provenance), _seen_range(provenance, calibration)
  if declared is not None:
    slack = 1e-3 * (declared[1] - declared[0])
    is_so = seen is None or (
      seen[0] >= declared[0] - slack and seen[1] <= declared[1] + slack
    )
    if is_so:
      return f"from {declared[0]:g} to {declared[1]:g}, as in the training data"
  if seen is None:
    return "as in the training data"
  return (
    "as in the training data; those of the calibration samples go from "
    f"{seen[0]:.4g} to {seen[1]:.4g}"
  )


def layout(
  provenance: Provenance, input_shape: Sequence[int]
) -> Optional[raw_layout.RawLayout]:
  """Returns in which order a raw example's numbers stand; None where not known."""
  known = provenance.preprocessing
  if known is None:
    return None
  return raw_layout.of(provenance.columns, raw_shape(known, input_shape))


def declaration(provenance: Provenance, input_shape: Sequence[int]) -> Optional[str]:
  """Writes the file.

  Args:
    provenance: What is known of the model.
    input_shape: Shape of one input.

  Returns:
    The text; None where preprocessing is not known.
  """
  known = provenance.preprocessing
  if known is None:
    return None
  laid_out = layout(provenance, input_shape)
  document = {
    "format": FORMAT,
    "version": VERSION,
    "in_words": known.in_words(),
    # Stored features have the type of raw ones, whatever is made of them.
    "raw": {
      "shape": raw_shape(known, input_shape),
      "type": provenance.feature_type,
      **({} if laid_out is None else laid_out.to_json()),
    },
    "input": {"shape": list(input_shape), "type": "float32"},
    "preprocessing": known.to_json(),
    "training_only": list(provenance.augmentations),
  }
  return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


_NO_SAMPLES = np.zeros([0], np.float32)


def card_section(
  provenance: Provenance,
  input_shape: Sequence[int],
  snippet_names: Sequence[str],
  calibration: "Array | ActivationRanges" = _NO_SAMPLES,
) -> str:
  """Writes a section of the model card: what a device does, and what it does not.

  Args:
    provenance: What is known of the model.
    input_shape: Shape of one input.
    snippet_names: Files with code that runs the model.
    calibration: As in `ExportRequest`.
  """
  known = provenance.preprocessing
  values = raw_values(provenance, calibration)
  parts = [
    "Not known to the exporter: feed the files with what training fed the model, values "
    f"{values}."
  ]
  if known is not None:
    sizes = raw_shape(known, input_shape)
    shown = "×".join("any" if size is None else str(size) for size in sizes)
    of_type = f" {provenance.feature_type}" if provenance.feature_type else ""
    doing = "function `preprocess`"
    if known.extraction.of_signal:
      doing = "nested class `Preprocessing`, with `preprocessing.tflite`,"
    parts = [
      f"A raw example is {shown}{of_type}. Its values are {values}. What is done to it, as in training: "
      f"{known.in_words()}.",
      f"In {' and '.join(f'`{name}`' for name in snippet_names)} the {doing} does that; "
      f"`{NAME}` declares it:",
      f"```json\n{json.dumps(known.to_json())}\n```",
    ]
  parts += _of_images(provenance, input_shape)
  if provenance.augmentations:
    names = ", ".join(provenance.augmentations)
    parts.append(f"Used in training only, nothing for a device to do: {names}.")
  return "\n\n".join(parts)


def _of_images(provenance: Provenance, input_shape: Sequence[int]) -> list[str]:
  """Says what nobody can know of images, and what was not done to them."""
  known = provenance.preprocessing
  extraction = None if known is None else known.extraction
  if len(input_shape) != _IMAGE_RANK or (extraction and extraction.of_signal):
    return []
  told = []
  is_resized = isinstance(extraction, Resize)
  of_colours = is_resized and getattr(extraction, "grey", False)
  if input_shape[-1] == 1 and not of_colours:
    told.append(
      "If these are grey images: whether things are light on dark or dark on light is "
      "not recorded; feed what the training data had, else the answers are wrong."
    )
  if is_resized:
    told.append(
      "Training took pixels as files store them: an orientation in a photo's EXIF data "
      "turned nothing. A device that turns photos upright needs a model that was trained "
      "on upright ones. `BitmapFactory` does not turn them, `ImageDecoder` does."
    )
  return [" ".join(told)] if told else []
