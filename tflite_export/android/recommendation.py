"""Which file of a target to ship, why, and what whoever ships it must know first."""

from collections.abc import Mapping, Sequence
from typing import Optional

from tflite_export.artifacts import Artifact

# What the recommended file may lose against the best one.
_ALLOWED_LOSS = 0.01
# What a pruned model may lose against the dense one before that is warned of.
_UNREMARKABLE_LOSS = 0.03
# So that 0.93 - 0.9 is three points and not more.
_ROUNDING = 1e-9
_MOST_NAMED_CLASSES = 5
# Members of `Artifact`, the most telling first, and what they are called.
_FIGURES = {
  "accuracy": "accuracy",
  "auc": "AUC",
  "argmax_agreement": "agreement with the model",
}


def quality(artifact: Artifact) -> Optional[float]:
  """Returns accuracy, or AUC where there are no classes; None where neither is known."""
  return artifact.auc if artifact.accuracy is None else artifact.accuracy


def recommended(
  artifacts: Sequence[Artifact], eligible: Mapping[str, bool]
) -> tuple[Artifact, str]:
  """Returns the file to ship first, and why.

  Of the files that lose no more than a point of accuracy: the smallest of those that
  ARM runs sparse; where there are none, the smallest. Without accuracies the AUC
  decides, and without that how often a file gives the model's class.

  Args:
    artifacts: The target's files.
    eligible: Whether ARM runs a file sparse, by path.
  """
  figure = next(
    (
      name
      for name in _FIGURES
      if any(getattr(each, name) is not None for each in artifacts)
    ),
    None,
  )
  values = {
    each.path: (getattr(each, figure) or 0.0) if figure else 0.0 for each in artifacts
  }
  best = max(values.values())
  good = [
    each for each in artifacts if values[each.path] >= best - _ALLOWED_LOSS - _ROUNDING
  ]
  fast = [each for each in good if eligible[each.path]]
  among = "; how good the files are is not known"
  if figure:
    among = f" of {len(good)} files within a point of the best {_FIGURES[figure]}"
    among += f", {_shown(figure, best)}"
  if fast:
    return min(fast, key=_size), (
      f"ARM phones run it sparse, and it is the smallest such file{among}"
    )
  return min(good, key=_size), f"it is the smallest{among}; no such file is run sparse"


def _size(artifact: Artifact) -> tuple[int, str]:
  return artifact.bytes, artifact.path


def _shown(figure: str, value: float) -> str:
  return f"{value:.4f}" if figure == "auc" else f"{100 * value:.2f} %"


def shown_quality(artifact: Artifact) -> str:
  """Returns a file's accuracy, AUC or agreement as text; empty where none is known."""
  for figure, called in _FIGURES.items():
    value = getattr(artifact, figure)
    if value is not None:
      return f"{called} {_shown(figure, value)}"
  return ""


def _printable(name: str) -> str:
  """Returns a name that does nothing to a terminal."""
  return "".join(each if each.isprintable() else "�" for each in name)


def warnings(
  artifact: Artifact, class_names: Sequence[str], dense_quality: Optional[float]
) -> list[str]:
  """Returns what should be known before the file is shipped, a sentence each.

  Args:
    artifact: The file.
    class_names: One per output.
    dense_quality: Accuracy or AUC of the dense model that was trained as long; None
      where it is not known.
  """
  found = []
  shares = zip(class_names, artifact.class_accuracy or (), strict=False)
  missed = [name for name, share in shares if share == 0]
  if missed:
    named = ", ".join(map(_printable, missed[:_MOST_NAMED_CLASSES]))
    more = len(missed) - _MOST_NAMED_CLASSES
    named += f" and {more} more" if more > 0 else ""
    found.append(f"no example of these classes is recognised (0 %): {named}")
  own = quality(artifact)
  if own is not None and dense_quality is not None:
    lost = dense_quality - own
    if lost > _UNREMARKABLE_LOSS + _ROUNDING:
      figure = "auc" if artifact.accuracy is None else "accuracy"
      unit = f"{lost:.4f}" if figure == "auc" else f"{100 * lost:.2f} points"
      found.append(
        f"{_FIGURES[figure]} is {unit} below that of the dense model trained as long, "
        f"{_shown(figure, dense_quality)}"
      )
  return found
