"""Which classes of a dataset are the anomalies that a model is to find."""

from collections.abc import Sequence

from fedtiny_tff import tasks
from fedtiny_tff.data import examples
from fedtiny_tff.errors import InputError


def anomaly_labels(
  names: Sequence[str], info: examples.DatasetInfo, task: tasks.Task
) -> tuple[int, ...]:
  """Resolves `--anomaly_classes`.

  Args:
    names: The flag's value; empty for the last class of the dataset, if it has more
      than one.
    info: Static facts of the dataset.
    task: What the model is for.

  Returns:
    Labels in ascending order; none for classification.

  Raises:
    InputError: When the flag does not fit the task or the dataset.
  """
  flag = f"--anomaly_classes={','.join(names)}"
  if task.has_classes:
    if names:
      raise InputError(
        f"{flag}: the model's task is {task.name}, which knows no anomalies; leave "
        "the flag out, or use --model=autoencoder"
      )
    return ()
  classes = info.class_names
  unknown = [name for name in names if name not in classes]
  if unknown:
    raise InputError(
      f"{flag}: dataset {info.name} has no class {unknown[0]!r}; its classes are "
      f"{', '.join(classes)}"
    )
  chosen = {classes.index(name) for name in names}
  if len(chosen) == len(classes):
    raise InputError(
      f"{flag}: these are all classes of dataset {info.name}; leave one to train on"
    )
  if not names and len(classes) > 1:
    chosen = {len(classes) - 1}
  return tuple(sorted(chosen))
