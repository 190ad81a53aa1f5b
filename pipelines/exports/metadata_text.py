"""What a `.tflite` file's metadata say, in a few lines for people."""

from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
  from tflite_export.metadata.model_metadata_reader import ModelMetadata, TensorMetadata

_MOST_LABELS = 5


def lines(metadata: "ModelMetadata") -> list[str]:
  """Returns what a file says of itself; not yet `redaction.printable`."""
  facts = [
    f"{label} {value}"
    for label, value in (
      ("version", metadata.version),
      ("author", metadata.author),
      ("licence", metadata.licence),
    )
    if value
  ]
  name = metadata.name or "without a name"
  told = [f"Metadata: {name}" + (f" ({', '.join(facts)})" if facts else "")]
  if metadata.description:
    told.append(f"  {metadata.description}")
  for signature in metadata.signatures:
    inputs, outputs = ", ".join(signature.inputs), ", ".join(signature.outputs)
    told.append(f"  signature {signature.name}: {inputs} → {outputs}")
  for kind, tensors in (("input", metadata.inputs), ("output", metadata.outputs)):
    told += [f"  {kind} {_tensor_text(tensor)}" for tensor in tensors]
  for name, content in metadata.custom.items():
    plain = {
      key: value
      for key, value in (content or {}).items()
      if isinstance(value, (str, int, float))
    }
    text = ", ".join(f"{key} {value}" for key, value in plain.items())
    told.append(f"  {name}: {text or 'not known to this command'}")
  return told


def _tensor_text(tensor: "TensorMetadata") -> str:
  """Returns one line on an input or output."""
  file = tensor.file
  parts = [f"{tensor.name or file.name}: {'×'.join(map(str, file.shape))} {file.dtype}"]
  if len(file.scale) == 1:
    zero_point = file.zero_point[0] if file.zero_point else 0
    parts.append(f"scale {file.scale[0]:.6g}, zero point {zero_point}")
  elif file.scale:
    parts.append(f"{len(file.scale)} scales")
  if tensor.mean or tensor.deviation:
    mean, deviation = (_numbers(each) for each in (tensor.mean, tensor.deviation))
    parts.append(f"fed (value - {mean}) / {deviation}")
  if tensor.labels is not None:
    shown = list(tensor.labels[:_MOST_LABELS])
    more = ["…"] if len(tensor.labels) > len(shown) else []
    parts.append(f"{len(tensor.labels)} labels: {', '.join(shown + more)}")
  if tensor.description:
    parts.append(tensor.description)
  return "; ".join(parts)


def _numbers(values: Optional[tuple[float, ...]]) -> str:
  texts = [f"{value:.6g}" for value in values or ()]
  return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
