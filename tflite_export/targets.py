"""The devices a model can be exported to, by name.

Importing this module is cheap: a target's runtime is imported when it is used.
"""

from fedtiny_tff.plugins import Deferred
from tflite_export.artifacts import Exporter

TARGETS: dict[str, Exporter] = {
  # For LiteRT with XNNPACK on ARM phones.
  "android": Deferred("tflite_export.android.android:export_android"),
  # For TensorFlow Lite Micro.
  "mcu": Deferred("tflite_export.microcontrollers.mcu:export_mcu"),
  # For LiteRT on devices that take part in a federation.
  "device_client": Deferred("tflite_export.devices.device_client:export_device_client"),
}
# Those with integer files, for which activation ranges are measured.
INTEGER_TARGETS = frozenset({"android", "mcu"})
# Made of a run alone, of whose rounds a Keras file knows nothing.
TARGETS_OF_RUNS = frozenset({"device_client"})
