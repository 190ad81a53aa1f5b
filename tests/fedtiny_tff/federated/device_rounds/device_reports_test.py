"""Values of the server are named for messages, and made of what messages hold."""

from typing import NamedTuple

from fedtiny_tff.federated.device_rounds import device_reports


class _Inner(NamedTuple):
  one: int
  two: int


class _Outer(NamedTuple):
  plain: int
  inner: _Inner


def test_nested_statistics_are_named_by_their_fields():
  nested = _Outer(1, _Inner(2, 3))
  named = device_reports.flat_statistics(nested)
  assert named == {"plain": 1, "inner.one": 2, "inner.two": 3}
  assert device_reports.pack_statistics(nested, named) == nested
  assert device_reports.flat_statistics(()) == {}
