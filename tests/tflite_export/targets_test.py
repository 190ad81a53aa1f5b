import os
import subprocess
import sys

from tests.tflite_export import models
from tflite_export.targets import TARGETS


def test_target_names():
  assert list(TARGETS) == ["android", "mcu"]


def test_android_target_exports():
  model = models.small_classifier()
  bundle = TARGETS["android"](models.request(model, models.prune(model, 0.2), 4))
  assert {artifact.target for artifact in bundle.artifacts} == {"android"}


def test_importing_the_table_loads_no_runtime():
  program = (
    "import sys, tflite_export.targets\n"
    "print([name for name in sys.modules if name.startswith(('ai_edge_litert', "
    "'tflite_micro', 'tensorflow_federated'))])"
  )
  printed = subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    check=True,
    text=True,
    env={**os.environ, "PYTHONPATH": os.getcwd()},
  ).stdout
  assert printed.strip() == "[]"
