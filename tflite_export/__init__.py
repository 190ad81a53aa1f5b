"""Turns a masked Keras model into verified `.tflite` files and firmware sources.

Converters and encoders are pure functions over bytes; files are written by
`pipelines/`. May import: TensorFlow, the LiteRT and TFLM runtimes, flatbuffers,
and ring 0 of `fedtiny_tff` (errors, models, the tfmot adapter). Never imports
TensorFlow Federated, `fedtiny_tff.strategies` or `fedtiny_tff.federated`.

What a program of one's own needs is to be had from here, and loaded when it is asked
for: `tflite_export.export_android` and all of `NAMES`.
"""

from fedtiny_tff.lazy_names import lazy_names

NAMES = {
  "About": "tflite_export.python_api",
  "BudgetError": "tflite_export.artifacts",
  "Exported": "tflite_export.python_api",
  "VerificationError": "tflite_export.artifacts",
  "export_android": "tflite_export.python_api",
  "export_mcu": "tflite_export.python_api",
}

__getattr__, __dir__ = lazy_names(__name__, NAMES)
