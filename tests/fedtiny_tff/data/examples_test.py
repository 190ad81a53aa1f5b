"""Static facts of a dataset."""

from tests.fedtiny_tff import support


def test_classes_are_counted():
  assert support.dataset_info((1,)).num_classes == 3
