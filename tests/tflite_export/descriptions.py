"""Descriptions that the metadata tests share."""

import dataclasses

from tflite_export.metadata.model_description import ModelDescription


def description(**changes):
  """Returns what is said of `models.converted(...)`."""
  plain = ModelDescription(
    name="small_classifier",
    description="Tells colours apart, pruned while it was trained in a federation.",
    version="1",
    author="FedTiny-TFF",
    licence="Apache-2.0",
    product="fedtiny-tff 0.1.0",
    task="classify",
    method="fedtiny",
    format="fp32_sparse",
    density=0.2,
    input_description="Image, 16×16, RGB.",
    output_description="One logit per class.",
    image_input=True,
    mean=(128.0, 64.0, 32.0),
    deviation=(64.0, 32.0, 16.0),
    value_range=(0.0, 255.0),
    class_names=("red", "green", "blue", "rosé"),
  )
  return dataclasses.replace(plain, **changes)
