"""The target for devices that train: what an Android team needs to take part in rounds.

    model.tflite              the client of a round, see `device_training.device_model`
    client_plan.json          what stays the same over the rounds, see `device_plan`
    client_plan.schema.json   its JSON schema
    *.kt                      the client in Kotlin, see `device_kotlin`
    README.md                 how they go together
    preprocessing.json, ...   how a device's own examples become the model's inputs

File and plan are byte for byte those that the run's server hands out.
"""

import importlib.resources

from fedtiny_tff.errors import InputError
from tflite_export.android import handover
from tflite_export.artifacts import Artifact, ExportBundle, ExportRequest
from tflite_export.device_training import device_bundle
from tflite_export.devices import device_kotlin, device_readme, device_verify
from tflite_export.runtimes import litert

_TARGET = "device_client"
_FORMAT = "fp32_training"
MODEL = "model.tflite"
PLAN = "client_plan.json"
SCHEMA = "client_plan.schema.json"


def export_device_client(request: ExportRequest) -> ExportBundle:
  """Builds the run's client, verifies it and writes all that belongs to it.

  Args:
    request: The model that the run ended with, and what its devices do.

  Returns:
    One artifact, and its folder.

  Raises:
    VerificationError: The file computes something else than the model, or its training
      touches what is pruned.
    InputError: The model comes from no run, or devices cannot do their part in it.
  """
  if request.device is None:
    raise InputError(
      f"--targets={_TARGET}: it is not known what devices do with this model; export a "
      "run, with --run_dir"
    )
  bundle = device_bundle.make_bundle(request.device)
  figures = device_verify.verify(bundle, request)
  texts = {
    PLAN: bundle.plan.as_json(),
    SCHEMA: schema_text(),
    "README.md": device_readme.readme(request, bundle),
    **device_kotlin.sources(bundle),
  }
  files = {name: text.encode() for name, text in texts.items()}
  files |= {MODEL: bundle.content, **handover.data_files(request)}
  artifact = Artifact(
    path=f"{_TARGET}/{MODEL}",
    target=_TARGET,
    format=_FORMAT,
    bytes=len(bundle.content),
    dense_bytes=len(bundle.content),
    density=figures.density,
    accuracy=figures.accuracy,
    class_accuracy=figures.class_accuracy,
    auc=figures.auc,
    argmax_agreement=figures.argmax_agreement,
    max_abs_error=figures.largest_loss_error,
    runtime=litert.runtime_name(),
    arena_bytes=None,
  )
  return ExportBundle(
    {f"{_TARGET}/{name}": content for name, content in files.items()}, (artifact,)
  )


def schema_text() -> str:
  """Returns the JSON schema of `client_plan.json`."""
  folder = importlib.resources.files("tflite_export.devices")
  return (folder / SCHEMA).read_text(encoding="utf-8")
