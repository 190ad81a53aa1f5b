"""Secure sums are plain sums, up to the steps that numbers are sent in."""

from typing import Any

import hypothesis
import numpy as np
import pytest
import tensorflow_federated as tff
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.federated.private_sums import secure_sums
from fedtiny_tff.protection.guards import Verdict
from fedtiny_tff.protection.secure_config import (
  BITWIDTH,
  MODULAR,
  FixedPoint,
  SecureSums,
)
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.support import floats, quick

pytestmark = pytest.mark.usefixtures("local_runtime")

MODES = (BITWIDTH, MODULAR)
VECTOR = tff.TensorType(np.float32, [2])
# 255 steps for three clients: 85 on either side of zero, of 2/85 each.
GRID = FixedPoint(2.0, 9, 3)


def _sums(mode: str) -> SecureSums:
  return SecureSums(mode, 9, 3, 8)


def _computation(add_up, value_type) -> tff.Computation:
  @tff.federated_computation(tff.FederatedType(value_type, tff.CLIENTS))
  def run(value: Any) -> Any:
    return add_up(value)

  return run


_BY_MODE = {
  mode: _computation(secure_sums.secure_sum(_sums(mode), GRID, VECTOR), VECTOR)
  for mode in MODES
}


@pytest.mark.parametrize(
  ("mode", "measured"),
  [
    (
      BITWIDTH,
      "<secure_upper_clipped_count=int32,secure_lower_clipped_count=int32,"
      "secure_upper_threshold=int64,secure_lower_threshold=int64>",
    ),
    (MODULAR, "<>"),
  ],
)
def test_type_signature(mode, measured):
  value_type = tff.types.to_type((VECTOR, np.float32))
  process = secure_sums.SecureFloatSum(_sums(mode), GRID).create(value_type)
  sent = "<float32[2],float32>"
  assert process.next.type_signature.compact_representation() == (
    f"(<state=<>@SERVER,value={{{sent}}}@CLIENTS> -> "
    f"<state=<>@SERVER,result={sent}@SERVER,measurements={measured}@SERVER>)"
  )
  assert process.initialize.type_signature.compact_representation() == "( -> <>@SERVER)"


@pytest.mark.parametrize("mode", MODES)
def test_by_hand(mode):
  sent = [floats([2, -9]), floats([1, 0.5]), floats([0, 1.99])]
  # Cut towards zero: 85 + 42 + 0 and -85 + 21 + 84 steps.
  np.testing.assert_allclose(_BY_MODE[mode](sent), [254 / 85, 40 / 85], rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_as_many_clients_as_there_may_be_do_not_overflow(mode):
  sent = [floats([7, -7])] * 3
  np.testing.assert_allclose(_BY_MODE[mode](sent), [6, -6], rtol=1e-6)


@hypothesis.settings(quick, max_examples=10)
@given(
  st.lists(
    st.tuples(*[st.floats(-3, 3, width=32)] * 2).map(floats), min_size=1, max_size=3
  )
)
@pytest.mark.parametrize("mode", MODES)
def test_the_sum_is_that_of_what_is_sent_up_to_steps(mode, sent):
  wanted = np.clip(np.float64(sent), -2, 2).sum(axis=0)
  found = np.asarray(_BY_MODE[mode](sent))
  assert (np.abs(found - wanted) <= len(sent) * GRID.step + 1e-6).all()


def test_nothing_is_added_up_in_the_open():
  for computation in _BY_MODE.values():
    assert support.open_aggregations(computation) == set()


class TestCounts:
  VERDICT = tff.types.to_type(Verdict(*[tff.TensorType(np.float32)] * 4))

  def run(self, sums):
    return _computation(secure_sums.sum_of(sums, self.VERDICT), self.VERDICT)

  @pytest.mark.parametrize("sums", [None, _sums(BITWIDTH), _sums(MODULAR)])
  def test_are_exact_however_they_are_added_up(self, sums):
    sent = [Verdict(*floats(each)) for each in ([1, 0, 3.25e8, -2.5], [1, 1, 1.0, 0.5])]
    found = self.run(sums)(sent)
    assert isinstance(found, Verdict)
    np.testing.assert_allclose(list(found), [2, 1, 325_000_001, -2], rtol=1e-7)

  def test_are_hidden_only_where_something_hides_them(self):
    assert support.open_aggregations(self.run(None)) == {"federated_sum"}
    assert support.open_aggregations(self.run(_sums(MODULAR))) == set()


def test_what_runs_in_the_open_keeps_its_type_and_has_nothing_secure():
  verdict = TestCounts.VERDICT

  def has_secure(computation):
    proto = tff.framework.serialize_computation(computation).SerializeToString()
    return b"federated_secure" in proto

  hidden = _computation(secure_sums.sum_of(_sums(BITWIDTH), verdict), verdict)
  found = secure_sums.in_the_open(hidden)
  assert has_secure(hidden)
  assert not has_secure(found)
  assert found.type_signature == hidden.type_signature
  container = found.type_signature.result.member.python_container
  assert container is Verdict


@pytest.mark.parametrize(
  ("value_type", "count"),
  [
    (np.float32, 1),
    ((np.float32, [2, 3]), 6),
    ((np.float32, [0]), 0),
    ([(np.float32, [2, 3]), ((np.int32, [4]), np.float32)], 11),
    ([], 0),
  ],
)
def test_values_are_counted(value_type, count):
  assert secure_sums.count_values(tff.types.to_type(value_type)) == count
