"""Which classes are anomalies, and what is said when the flag does not fit."""

import pytest

from fedtiny_tff import tasks
from fedtiny_tff.data import examples, preprocessing
from fedtiny_tff.errors import InputError
from pipelines.settings import anomalies


def _labels(names, classes=("cat", "dog", "eel"), task=tasks.RECONSTRUCT):
  how = preprocessing.Preprocessing(1.0, (0.0,), (1.0,))
  info = examples.DatasetInfo("zoo", (2,), "uint8", tuple(classes), how)
  return anomalies.anomaly_labels(names, info, task)


@pytest.mark.parametrize(
  ("names", "labels"),
  [
    ([], (2,)),
    (["dog"], (1,)),
    (["eel", "cat"], (0, 2)),
    (["dog", "dog"], (1,)),
  ],
)
def test_names_become_labels(names, labels):
  assert _labels(names) == labels


def test_a_data_set_of_one_class_has_no_anomalies():
  assert _labels([], ["cat"]) == ()


def test_classification_has_no_anomalies():
  assert _labels([], task=tasks.CLASSIFY) == ()


@pytest.mark.parametrize(
  ("names", "task", "said"),
  [
    (
      ["dog"], tasks.CLASSIFY,
      "--anomaly_classes=dog: the model's task is classify, which knows no anomalies; "
      "leave the flag out, or use --model=autoencoder",
    ),
    (
      ["dog", "ox"], tasks.RECONSTRUCT,
      "--anomaly_classes=dog,ox: dataset zoo has no class 'ox'; its classes are cat, "
      "dog, eel",
    ),
    (
      ["eel", "dog", "cat"], tasks.RECONSTRUCT,
      "--anomaly_classes=eel,dog,cat: these are all classes of dataset zoo; leave one "
      "to train on",
    ),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(names, task, said):
  with pytest.raises(InputError) as raised:
    _labels(names, task=task)
  assert str(raised.value) == said
