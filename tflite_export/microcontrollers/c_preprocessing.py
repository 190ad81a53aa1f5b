"""What `model_settings.h` knows of data: preprocessing, and scores of normal examples."""

import textwrap
from typing import Optional

import numpy as np

from fedtiny_tff.data.extraction_base import Extraction
from fedtiny_tff.data.preprocessing import Preprocessing
from tflite_export.microcontrollers.mcu_scores import Scores
from tflite_export.texts.raw_layout import RawLayout

_FLOAT_BYTES = 4
_LINE_LENGTH = 80
_ALIKE = """\
constexpr float kFeatureScale = {scale};
constexpr float kFeatureMean = {mean};
constexpr float kFeatureDeviation = {deviation};
// An input of the model, of the feature at that place.
inline float ModelInput(float feature, int /*place*/) {{
  return (feature * kFeatureScale - kFeatureMean) / kFeatureDeviation;
}}
"""
_BY_CHANNEL = """\
constexpr float kFeatureScale = {scale};
constexpr int kFeatureChannels = {channels};
constexpr float kFeatureMean[kFeatureChannels] = {{{mean}}};
constexpr float kFeatureDeviation[kFeatureChannels] = {{{deviation}}};
// An input of the model, of the feature at that place; row-major, channels last.
inline float ModelInput(float feature, int place) {{
  const int channel = place % kFeatureChannels;
  return (feature * kFeatureScale - kFeatureMean[channel]) /
         kFeatureDeviation[channel];
}}
"""


def settings(preprocessing: Preprocessing, layout: Optional[RawLayout] = None) -> str:
  """Returns lines of C++11: from a raw example to the inputs of the model.

  Args:
    preprocessing: What is declared.
    layout: In which order a raw example's numbers stand; None where not known.
  """
  channels = len(preprocessing.mean)
  normalise = _ALIKE if channels == 1 else _BY_CHANNEL
  told = _extraction(preprocessing.extraction) + _layout(layout)
  return told + normalise.format(
    scale=_float(preprocessing.scale),
    channels=channels,
    mean=_floats(preprocessing.mean),
    deviation=_floats(preprocessing.deviation),
  )


def score_settings(scores: Scores) -> str:
  """Returns constants: what anomaly scores normal examples have."""
  words = (
    f"Anomaly scores, mean squared errors, of {scores.samples} calibration samples: so "
    "many percent of them score no more. main_functions.cc prints millionths. No "
    "threshold is better than the examples it comes from: try yours on recordings."
  )
  lines = [f"// {line}" for line in textwrap.wrap(words, _LINE_LENGTH - 3)]
  lines += [
    f"constexpr float kScorePercentile{percent} = {_float(score)};"
    for percent, score in scores.percentiles
  ]
  return "\n".join(lines) + "\n"


def array_bytes(preprocessing: Preprocessing) -> int:
  """Returns the flash that its arrays take on 32-bit targets."""
  channels = len(preprocessing.mean)
  return 0 if channels == 1 else 2 * _FLOAT_BYTES * channels


def _extraction(extraction: Extraction) -> str:
  """Returns what features are made of, in words and as constants."""
  told = extraction.in_words()
  if not told:
    return "// Features are the raw values, as they are.\n"
  words = f"Features: {told.replace('×', ' x ')}. preprocessing.json says the same."
  lines = [f"// {line}" for line in textwrap.wrap(words, _LINE_LENGTH - 3)]
  for name, value in extraction.to_json().items():
    constant = "kExtraction" + "".join(part.capitalize() for part in name.split("_"))
    if isinstance(value, bool):
      lines.append(f"constexpr bool {constant} = {str(value).lower()};")
    elif isinstance(value, str):
      lines.append(f'constexpr const char* {constant} = "{value}";')
    elif isinstance(value, int):
      lines.append(f"constexpr long {constant} = {value};")
    else:
      lines.append(f"constexpr float {constant} = {_float(value)};")
  return "\n".join(lines) + "\n"


def _layout(layout: Optional[RawLayout]) -> str:
  """Returns where each number of a raw example stands."""
  if layout is None:
    return ""
  words = f"A raw example: {layout.in_words(layout.quoted_columns())}."
  # A name that is broken off behind a backslash would be another one.
  lines = textwrap.wrap(
    words, _LINE_LENGTH - 3, break_long_words=False, break_on_hyphens=False
  )
  return "".join(f"// {line}\n" for line in lines) + (
    f"constexpr int kRawRows = {layout.rows};\n"
    f"constexpr int kRawColumns = {len(layout.columns)};\n"
  )


def _floats(values: tuple[float, ...]) -> str:
  """Returns the inside of an array, in lines that are not too long."""
  text = ", ".join(map(_float, values))
  if len(values) <= 2:
    return text
  return "\n    " + "\n    ".join(textwrap.wrap(text, _LINE_LENGTH - 4))


def _float(value: float) -> str:
  """Returns a literal that the compiler reads back as the same float32."""
  return f"{float(np.float32(value)):.8e}f"
