"""Types and states of a model that is adapted to int8, by hand."""

import numpy as np
import pytest
import tensorflow_federated as tff
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.federated import messages
from fedtiny_tff.federated.quantisation import quantisation_messages
from fedtiny_tff.local_training.quantisation_training import QuantisedWeights
from fedtiny_tff.masked_models.tfmot_masking import ModelWeights
from fedtiny_tff.masked_models.tfmot_quantisation import QuantisedPlan, Ranges
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.support import floats, quick

# 4 prunable weights; 2 + 2 of batch norm and 2 biases; 2 channels. Three active weights
# are a bitmap of a byte.
PLAN = QuantisedPlan(support.normalized_linear_model(), {}, (), (), (), 3)
MODEL = (
  "<active_values=float32[3],positions=uint8[1],dense=float32[6],"
  "batch_norm_mean=float32[2],batch_norm_variance=float32[2]>"
)
RANGES = "<minimum=float32[3],maximum=float32[3]>"
STATE = f"<model={MODEL},ranges={RANGES},round_index=int32>"


@pytest.fixture(scope="module", name="types")
def fixture_types():
  return quantisation_messages.quantised_types(PLAN, 3)


class TestTypes:
  def test_of_a_plan(self, types):
    assert types.model.compact_representation() == MODEL
    assert types.ranges.compact_representation() == RANGES
    assert types.state.compact_representation() == STATE

  def test_where_they_are(self, types):
    state, references = types.placed
    assert state.compact_representation() == f"{STATE}@SERVER"
    assert references == tff.FederatedType(messages.reference_type(), tff.CLIENTS)

  def test_ranges_weigh_eight_bytes_each(self):
    for quantisers in (0, 5):
      found = quantisation_messages.ranges_type(quantisers)
      assert messages.size_bytes(found) == 8 * quantisers


def _quantised(prunable, mask) -> QuantisedWeights:
  weights = ModelWeights(
    np.where(mask, prunable, 0).astype(np.float32),
    floats([1, 2, 3, 4, 5, 6]),
    floats([-1, 1]),
    floats([0.5, 2]),
  )
  return QuantisedWeights(weights, Ranges(floats([-1, 0, -3]), floats([1, 6, 0])))


class TestState:
  MASK = np.array([True, False, True, True])

  def test_by_hand(self):
    quantised = _quantised([7, 8, 9, 10], self.MASK)
    state = quantisation_messages.pack_state(quantised, self.MASK, 7)
    np.testing.assert_array_equal(state.model.active_values, [7, 9, 10])
    # 1011 0000, most significant bit first.
    np.testing.assert_array_equal(state.model.positions, [0xB0])
    np.testing.assert_array_equal(state.ranges.maximum, [1, 6, 0])
    assert state.round_index == 7
    assert state.round_index.dtype == np.int32

  def test_is_of_its_type(self, types):
    # Ranges as they come of a file or of Python are taken, too.
    quantised = _quantised([7, 8, 9, 10], self.MASK)
    quantised = quantised._replace(ranges=Ranges([-1.0, 0.0, -3.0], [1.0, 6.0, 0.0]))
    state = quantisation_messages.pack_state(quantised, self.MASK, 7)
    found = [(leaf.dtype, leaf.shape) for leaf in support.leaves(state)]
    flat = tff.types.structure_from_tensor_type_tree(
      lambda each: (np.dtype(each.dtype), tuple(each.shape)), types.state
    )
    wanted = [*flat.model, *flat.ranges, flat.round_index]
    assert found == wanted

  @quick
  @given(
    st.lists(
      st.tuples(st.booleans(), st.floats(-9, 9, width=32)), min_size=1, max_size=40
    )
  )
  def test_what_is_packed_is_unpacked(self, weights):
    marks, values = zip(*weights, strict=True)
    mask = np.array(marks)
    quantised = _quantised(floats(values), mask)
    state = quantisation_messages.pack_state(quantised, mask, 3)
    assert len(state.model.active_values) == sum(marks)
    found = quantisation_messages.unpack_state(state, len(mask))
    assert isinstance(found, QuantisedWeights)
    assert isinstance(found.ranges, Ranges)
    for one, other in zip(
      support.leaves(found), support.leaves(quantised), strict=True
    ):
      np.testing.assert_array_equal(one, other)
      assert one.dtype == np.float32
