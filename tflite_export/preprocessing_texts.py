"""What becomes of raw examples, for programs and for readers of the model card.

Of `preprocessing.json`, `fedtiny_tff.data.preprocessing.Preprocessing.from_json` reads
what is under "preprocessing".
"""

import json
from collections.abc import Sequence
from typing import Optional

from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing
from tflite_export import raw_layout
from tflite_export.provenance import Provenance

NAME = "preprocessing.json"
FORMAT = "fedtiny-tff preprocessing"
VERSION = 1


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


def card_section(
  provenance: Provenance, input_shape: Sequence[int], snippet_names: Sequence[str]
) -> str:
  """Writes a section of the model card: what a device does, and what it does not.

  Args:
    provenance: What is known of the model.
    input_shape: Shape of one input.
    snippet_names: Files with code that runs the model.
  """
  known = provenance.preprocessing
  parts = ["Not known to the exporter: feed the files with what training fed the model."]
  if known is not None:
    sizes = raw_shape(known, input_shape)
    shown = "×".join("any" if size is None else str(size) for size in sizes)
    of_type = f" {provenance.feature_type}" if provenance.feature_type else ""
    doing = "function `preprocess`"
    if known.extraction.of_signal:
      doing = "nested class `Preprocessing`, with `preprocessing.tflite`,"
    parts = [
      f"A raw example is {shown}{of_type}. What is done to it, as in training: "
      f"{known.in_words()}.",
      f"In {' and '.join(f'`{name}`' for name in snippet_names)} the {doing} does that; "
      f"`{NAME}` declares it:",
      f"```json\n{json.dumps(known.to_json())}\n```",
    ]
  if provenance.augmentations:
    names = ", ".join(provenance.augmentations)
    parts.append(f"Used in training only, nothing for a device to do: {names}.")
  return "\n\n".join(parts)
