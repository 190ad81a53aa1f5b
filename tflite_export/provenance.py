"""Where an exported model comes from: for its model card and the files' metadata."""

import dataclasses
from collections.abc import Mapping
from typing import Optional

from fedtiny_tff.data.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class Provenance:
  """What a model is, and what became of it before it was exported.

  Attributes:
    name: Name of the model.
    version: Of the program that exported it.
    licence: Licence of the model, as its owner states it.
    method: How it was pruned, in a few words.
    training: What it was trained on and how: heading to text.
    calibration: Where the activation ranges of quantised files come from.
    evaluation: What the examples are on which files are judged.
    preprocessing: From raw examples to model inputs; None where it is not known.
    feature_type: NumPy type name of raw examples, and of stored features; None where it
      is not known.
    dense_quality: Accuracy, or AUC, of the dense model that was trained as long, on the
      same examples; None where there is none.
    columns: Of the table that examples come from, in order; empty where there is none.
    augmentations: Random changes to inputs, made in training and nowhere else.
  """

  name: str
  version: str
  licence: str
  method: str
  training: Mapping[str, str]
  calibration: str
  evaluation: str
  preprocessing: Optional[Preprocessing] = None
  feature_type: Optional[str] = None
  augmentations: tuple[str, ...] = ()
  dense_quality: Optional[float] = None
  columns: tuple[str, ...] = ()
