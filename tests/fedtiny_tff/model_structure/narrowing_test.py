"""The widest model that fits: against a search of all widths, and at both ends."""

import dataclasses
from typing import Any, cast

import hypothesis
import pytest
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from fedtiny_tff.model_structure import model_profile, narrowing
from fedtiny_tff.models import layers, registry
from tests.fedtiny_tff import support as core_support


@dataclasses.dataclass(frozen=True)
class _Scripted:
  """Stands for a model of three layers, of so many channels each."""

  channels: tuple[int, ...]
  name: str = "scripted"

  @property
  def size(self) -> int:
    first, second, third = self.channels
    return 9 * first + first * second + second * third + 3


def _scripted(width):
  return _Scripted(tuple(layers.scaled(n, width) for n in (6, 10, 16)))


def _search(width, limit, find: Any = _scripted):
  return narrowing.widest(find, width, lambda model: cast(Any, model).size, limit)


@core_support.quick
@hypothesis.given(st.floats(0.05, 2.0), st.floats(0.0, 1.2))
def test_no_wider_model_fits(width, share):
  limit = int(share * _scripted(width).size)
  steps = range(1, int(width / narrowing.WIDTH_STEP) + 1)
  widths = [step * narrowing.WIDTH_STEP for step in steps]
  fitting = [m.size for m in map(_scripted, [*widths, width]) if m.size <= limit]
  if not fitting:
    with pytest.raises(InputError):
      _search(width, limit)
    return
  assert _search(width, limit).size == max(fitting)


def test_a_model_that_fits_at_once_is_taken_as_it_is():
  tried = []

  def find(width):
    tried.append(width)
    return _scripted(width)

  # No multiple of the step.
  assert _search(0.7, 10_000, find) == _scripted(0.7)
  assert tried == [0.7]


def test_a_limit_is_met_exactly_or_missed_by_one():
  # Three layers of 3, 5 and 8 channels: 27 + 15 + 40 + 3.
  assert _search(1.0, 85).channels == (3, 5, 8)
  assert _search(1.0, 84).size < 85


def test_few_models_are_built():
  tried = []

  def find(width):
    tried.append(width)
    return _scripted(width)

  _search(1.0, 85, find)
  assert len(set(tried)) == len(tried) <= 15


def test_the_narrowest_model_may_be_too_large():
  # One channel each: 9 + 1 + 1 + 3.
  assert _search(1.0, 14).channels == (1, 1, 1)
  message = "'scripted' has 14 weights when every layer is .* only 13 are allowed"
  with pytest.raises(InputError, match=message) as caught:
    _search(1.0, 13)
  assert "\n" not in str(caught.value)


def test_sizes_of_a_real_model():
  found = registry.get_model("small_cnn", (8, 8, 3), 10, 0.25)
  # 8, 16 and 32 channels.
  prunable = 9 * 8 * 16 + 9 * 16 * 32 + 32 * 10
  assert narrowing.prunable_weights(found) == prunable
  unpruned = 9 * 3 * 8 + 2 * (8 + 16 + 32) + 10
  assert narrowing.parameters(found) == prunable + unpruned
  assert narrowing.parameters(found) == model_profile.profile_model(found).parameters


@pytest.mark.parametrize("size_of", [narrowing.prunable_weights, narrowing.parameters])
def test_a_real_architecture(size_of):
  def find(width):
    return registry.get_model("small_cnn", (8, 8, 3), 10, width)

  limit = size_of(find(0.25)) // 3
  found = narrowing.widest(find, 0.25, size_of, limit)
  channels = found.spec.layers[0].shape[2:] + found.spec.layers[1].shape[3:]
  assert size_of(found) <= limit
  # One more channel, in the layer that gets it next, is too much.
  width = min(
    (2 * count + 1) / (2 * base)
    for count, base in zip(channels, (32, 64, 128), strict=True)
  )
  assert size_of(find(width)) > limit
