"""What is published about the standard sets."""

import pytest

from fedtiny_tff.data.sources.standard_images import STANDARD_IMAGES


@pytest.mark.parametrize(
  ("name", "classes"),
  [("cifar10", 10), ("cifar100", 100), ("svhn", 10), ("cinic10", 10)],
)
def test_classes_are_distinct(name, classes):
  assert len(set(STANDARD_IMAGES[name].class_names)) == classes
  assert len(STANDARD_IMAGES[name].class_names) == classes


def test_labels_mean_what_they_are_published_to():
  # https://www.cs.toronto.edu/~kriz/cifar.html: labels are in alphabetical order.
  for name in ("cifar10", "cifar100", "cinic10"):
    names = STANDARD_IMAGES[name].class_names
    assert list(names) == sorted(names)
  assert STANDARD_IMAGES["cifar100"].class_names[11] == "boy"
  assert STANDARD_IMAGES["svhn"].class_names[3] == "3"


@pytest.mark.parametrize("name", STANDARD_IMAGES)
def test_means_and_deviations_are_those_of_photographs(name):
  known = STANDARD_IMAGES[name]
  assert all(0.4 < value < 0.55 for value in known.mean)
  assert all(0.15 < value < 0.3 for value in known.deviation)
