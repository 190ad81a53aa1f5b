"""The devices a model can be exported to, by name.

Importing this module is cheap: a target's runtime is imported when it is used.
"""

from fedtiny_tff.plugins import Deferred
from tflite_export.artifacts import Exporter

TARGETS: dict[str, Exporter] = {
  # For LiteRT with XNNPACK on ARM phones.
  "android": Deferred("tflite_export.android:export_android"),
  # For TensorFlow Lite Micro.
  "mcu": Deferred("tflite_export.mcu:export_mcu"),
}
