"""What the metadata of an Android file say of the model."""

from tflite_export.artifacts import ExportRequest
from tflite_export.conversion import output_meaning
from tflite_export.metadata.model_description import ModelDescription
from tflite_export.texts import preprocessing_texts
from tflite_export.texts.labels import clean_labels

_IMAGE_RANK = 3
_IMAGE_CHANNELS = (1, 3)


def describe(request: ExportRequest, format: str) -> ModelDescription:
  """Describes a model as one of its files stores it.

  Args:
    request: What is exported.
    format: As in `Artifact.format`.
  """
  provenance = request.provenance
  shape = tuple(request.model.inputs[0].shape[1:])
  active = sum(int(mask.sum()) for mask in request.masks.values())
  total = sum(mask.size for mask in request.masks.values())
  task = "classifies" if request.task.has_classes else "reconstructs its input"
  preprocessing = provenance.preprocessing
  # Metadata know no scale of its own: (x · scale - m) / d = (x - m / scale) / (d / scale).
  mean: tuple[float, ...] = (0.0,)
  deviation: tuple[float, ...] = (1.0,)
  value_range = None
  fed = "values preprocessed as in training"
  of_signal = False
  if preprocessing is not None:
    mean = tuple(value / preprocessing.scale for value in preprocessing.mean)
    deviation = tuple(value / preprocessing.scale for value in preprocessing.deviation)
    fed = "stored values less the mean, over the deviation"
    of_signal = preprocessing.extraction.of_signal
    if preprocessing.extraction.kind != "none":
      fed = f"{fed}; stored: {preprocessing.extraction.in_words()}"
    value_range = preprocessing_texts.stored_range(provenance)
  return ModelDescription(
    name=provenance.name,
    description=f"Sparse model that {task}. {provenance.method}",
    version=provenance.version,
    author="FedTiny-TFF",
    licence=provenance.licence,
    product=f"FedTiny-TFF {provenance.version}",
    task=request.task.name,
    method=provenance.method,
    format=format,
    density=active / total if total else 1.0,
    input_description=f"{'×'.join(map(str, shape))} {fed}",
    output_description=output_meaning.in_words(output_meaning.meaning(request)),
    image_input=(
      len(shape) == _IMAGE_RANK and shape[-1] in _IMAGE_CHANNELS and not of_signal
    ),
    mean=mean,
    deviation=deviation,
    value_range=value_range,
    class_names=clean_labels(request.class_names) if request.task.has_classes else (),
  )
