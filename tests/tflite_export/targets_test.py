from tests.tflite_export import models
from tests.tflite_export.processes import loaded_by
from tflite_export.targets import INTEGER_TARGETS, TARGETS, TARGETS_OF_RUNS


def test_target_names():
  assert list(TARGETS) == ["android", "mcu", "device_client"]
  # A target has integers to calibrate, or comes of a run alone.
  assert set(TARGETS) == INTEGER_TARGETS | TARGETS_OF_RUNS


def test_android_target_exports():
  model = models.small_classifier()
  bundle = TARGETS["android"](models.request(model, models.prune(model, 0.2), 4))
  assert {artifact.target for artifact in bundle.artifacts} == {"android"}


def test_importing_the_table_loads_no_runtime():
  runtimes = ("ai_edge_litert", "tflite_micro", "tensorflow")
  assert loaded_by(["tflite_export.targets"], runtimes) == []
