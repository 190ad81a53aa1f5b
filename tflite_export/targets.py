"""The devices a model can be exported to, by name.

Importing this module is cheap: a target's runtime is imported when it is used.
"""

from tflite_export.artifacts import ExportBundle, Exporter, ExportRequest


def _export_android(request: ExportRequest) -> ExportBundle:
  """Exports for LiteRT with XNNPACK on ARM phones."""
  from tflite_export.android import export_android  # noqa: PLC0415

  return export_android(request)


def _export_mcu(request: ExportRequest) -> ExportBundle:
  """Exports for TensorFlow Lite Micro."""
  from tflite_export.mcu import export_mcu  # noqa: PLC0415

  return export_mcu(request)


TARGETS: dict[str, Exporter] = {
  "android": _export_android,
  "mcu": _export_mcu,
}
