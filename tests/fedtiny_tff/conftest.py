"""Tests here build models in graphs of their own; others' models stay usable."""

from collections.abc import Iterator

import pytest

from fedtiny_tff.model_structure import keras_graphs


@pytest.fixture(autouse=True)
def _spare_eager_models() -> Iterator[None]:
  with keras_graphs.sparing_eager_models():
    yield
