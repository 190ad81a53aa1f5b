"""The table of the models in docs/models.md: `python -m fedtiny_tff.models.table`.

Everything in it is computed from the models, but for why XNNPACK's sparse path does
not take one.
"""

from typing import NamedTuple, Optional

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import model_profile
from fedtiny_tff.models import registry


class Row(NamedTuple):
  """A model at the data it was made for.

  Attributes:
    name: Key of `registry.MODELS`.
    shape: Of one example; height, width, channels of an image.
    num_classes: Number of logits; None where there are no classes.
    width: Width multiplier.
  """

  name: str
  shape: tuple[int, ...]
  num_classes: Optional[int]
  width: float = 1.0


_CIFAR = ((32, 32, 3), 10)
_WAKE_WORDS = ((96, 96, 3), 2)

ROWS = (
  Row("resnet18", *_CIFAR),
  Row("vgg11_bn", *_CIFAR),
  Row("resnet8", *_CIFAR),
  Row("ds_cnn", (49, 10, 1), 12),
  Row("mobilenet_v1_025", *_WAKE_WORDS),
  Row("mobilenet_v1_sparse", *_WAKE_WORDS),
  Row("mobilenet_v1_sparse", *_WAKE_WORDS, 0.25),
  Row("mobilenet_v2_sparse", *_WAKE_WORDS),
  Row("mobilenet_v2_sparse", *_WAKE_WORDS, 0.25),
  *(Row("small_cnn", *_CIFAR, width) for width in (0.31, 0.63, 0.875, 1.05)),
  Row("digits_cnn", (8, 8, 1), 10),
  Row("autoencoder", (640,), None),
)

# Why XNNPACK's sparse path does not take a model; models that it takes are not here.
XNNPACK_OBSTACLES = {
  "resnet18": "3×3 convolutions",
  "vgg11_bn": "3×3 convolutions, max-pooling",
  "resnet8": "3×3 convolutions",
  "ds_cnn": "10×4 stem",
  "mobilenet_v1_025": '"same" padding at stride 2',
  "small_cnn": "3×3 convolutions",
  "digits_cnn": "3×3 convolutions",
  "autoencoder": "dense layers only",
}


def usual(name: str) -> Row:
  """Returns a model at the data it was made for, at width 1 where there is a choice.

  Raises:
    InputError: When the name is unknown.
  """
  for row in ROWS:
    if row.name == name:
      return row
  raise InputError(
    f"unknown model {name!r}: choose one of {', '.join(registry.MODELS)}"
  )


_COLUMNS = (
  "model", "width", "input", "classes", "parameters", "MACs", "int8 bytes", "prunable",
  "blocks", "XNNPACK sparse",
)  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
  found = registry.get_model(*row)
  profile = model_profile.profile_model(found)
  obstacle = XNNPACK_OBSTACLES.get(row.name)
  return (
    f"`{row.name}`",
    f"{row.width:g}",
    "×".join(map(str, row.shape)),
    "-" if row.num_classes is None else str(row.num_classes),
    f"{profile.parameters:,}",
    f"{profile.macs / 1e6:.1f} M",
    f"{profile.int8_bytes:,}",
    f"{sum(profile.prunable) / profile.parameters:.1%}",
    str(len(found.spec.blocks)),
    f"no: {obstacle}" if obstacle else "yes",
  )


def markdown() -> str:
  """Builds every model's graph once and returns the table, lines ending in newline."""
  lines = [_COLUMNS, tuple("---" for _ in _COLUMNS), *map(_cells, ROWS)]
  return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
  print(markdown(), end="")
