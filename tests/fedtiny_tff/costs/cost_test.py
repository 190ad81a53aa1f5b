"""The cost model against numbers worked out by hand.

ResNet18 with a CIFAR stem is written down here as arithmetic, not built: all
check values of the paper's setting follow from it.
"""

import dataclasses

import numpy as np
import pytest

from fedtiny_tff.costs import cost, device_cost
from fedtiny_tff.model_structure.model_profile import ModelProfile
from fedtiny_tff.sparsity import densities
from fedtiny_tff.sparsity import spec as spec_lib
from fedtiny_tff.strategies import base, fedtiny, prunefl, registry
from tests.fedtiny_tff import support

# (kernel size, inputs, outputs, output height and width) in model order.
_STAGES = [(64, 64, 32), (64, 128, 16), (128, 256, 8), (256, 512, 4)]


def _resnet18():
  """Returns (profile, blocks) of ResNet18 for 32x32 RGB and 10 classes."""
  layers: list[tuple[int, int]] = []
  blocks: list[list[int]] = []
  for inputs, outputs, side in _STAGES:
    units = []
    for channels in (inputs, outputs):
      unit = [(9 * channels * outputs, side), (9 * outputs * outputs, side)]
      if channels != outputs:
        unit.append((channels * outputs, side))
      units.append(range(len(layers), len(layers) + len(unit)))
      layers += unit
    # Stages 1 to 3 are a block each; stage 4 makes two.
    blocks += [[*units[0], *units[1]]] if side > 4 else [[*units[0]], [*units[1]]]
  blocks[-1].append(len(layers))
  layers.append((512 * 10, 1))
  # Channels with batch norm: stem, then 4 per stage, and 3 shortcuts.
  batch_norm = 64 + 4 * (64 + 128 + 256 + 512) + 128 + 256 + 512
  stem = 9 * 3 * 64
  profile = ModelProfile(
    parameters=sum(size for size, _ in layers) + stem + 2 * batch_norm + 10,
    prunable=tuple(size for size, _ in layers),
    prunable_macs=tuple(size * side * side for size, side in layers),
    dense_macs=stem * 32 * 32,
    batch_norm_channels=batch_norm,
    activation_values=0,
    int8_bytes=0,
  )
  return profile, blocks


_PROFILE, _BLOCKS = _resnet18()
_WORKLOAD = device_cost.Workload(local_samples=5000, local_epochs=5, batch_size=64)


def _spec():
  return support.spec_of_sizes(*_PROFILE.prunable, blocks=_BLOCKS)


def _uniform(density=0.01):
  return densities.uniform_counts(_spec(), density, np.random.default_rng(0))


def test_the_profile_is_the_known_one():
  assert _PROFILE.parameters == 11_173_962
  # 1,728 stem + 9,600 batch norm + 10 biases.
  assert _PROFILE.unpruned_parameters == 11_338
  assert _PROFILE.macs == 555_422_720
  # Five blocks; stage 1 is 4 * 37,748,736 of the multiply-accumulates: 27.2 %.
  assert len(_BLOCKS) == 5
  stage1 = sum(_PROFILE.prunable_macs[i] for i in _BLOCKS[0])
  assert stage1 == 4 * 37_748_736
  assert stage1 / _PROFILE.macs == pytest.approx(0.272, abs=5e-4)


def test_dense_fedavg():
  paid = cost.dense_cost(_PROFILE, _WORKLOAD)
  assert paid.parameters == 11_173_962
  assert paid.macs == 555_422_720
  assert paid.forward_flops == pytest.approx(1.111e9, rel=1e-3)
  assert paid.training_flops_per_round == pytest.approx(8.33e13, rel=1e-3)
  assert paid.adjust_round_flops == 6.0 * _PROFILE.macs
  # 8 bytes a parameter: 89.39 MB.
  assert paid.memory_bytes == 8 * 11_173_962
  assert paid.memory == device_cost.MemoryCost(4 * 11_173_962, 4 * 11_173_962, 0, 0)
  assert paid.memory_bytes / 1e6 == pytest.approx(89.39, rel=1e-4)


# A hundred times the weights at the same multiply-accumulates: with the true sizes
# as active counts every layer has a density of exactly 1 %, without rounding.
_EXACT = dataclasses.replace(
  _PROFILE, prunable=tuple(100 * n for n in _PROFILE.prunable)
)


def test_sparse_forward_at_one_percent():
  sparse = cost.sparse_forward_flops(_EXACT, _PROFILE.prunable)
  # 0.01 + 0.99 * 1,769,472 / 555,422,720, the stem being dense.
  assert sparse / (2.0 * _PROFILE.macs) == pytest.approx(0.013154, abs=5e-7)
  # Whole weights per layer are within a thousandth of it.
  rounded = cost.sparse_forward_flops(_PROFILE, _uniform())
  assert rounded == pytest.approx(sparse, rel=1e-3)


def test_a_full_mask_costs_a_dense_forward_pass():
  assert cost.sparse_forward_flops(_PROFILE, _PROFILE.prunable) == 2.0 * _PROFILE.macs


def test_fedtiny_at_one_percent():
  dense = cost.dense_cost(_PROFILE, _WORKLOAD)
  paid = fedtiny.FedTiny().round_cost(_EXACT, _WORKLOAD, _PROFILE.prunable, _BLOCKS)
  # 5 epochs of ceil(5000 / 64) = 79 steps; the extra is 2 * 0.99 of stage 1 for one
  # of 395 mini-batches: 0.013154 + 0.2719 * 0.99 / (3 * 395) = 0.013381.
  assert _WORKLOAD.steps == 395
  ratio = paid.adjust_round_flops / dense.adjust_round_flops
  assert ratio == pytest.approx(0.013381, abs=1e-6)
  rounded = fedtiny.FedTiny().round_cost(_PROFILE, _WORKLOAD, _uniform(), _BLOCKS)
  assert rounded.adjust_round_flops / dense.adjust_round_flops <= 0.013382
  # Against PruneFL's (2 F_s + F_d) / 3 F_d = 0.3421.
  prunefl = (2 * 0.013154 + 1) / 3
  assert prunefl == pytest.approx(0.3421, abs=1e-4)
  assert 1 - ratio / prunefl == pytest.approx(0.9609, abs=1e-4)
  assert paid.training_flops_per_round == pytest.approx(0.013154 * 8.33e13, rel=1e-3)


def test_fedtiny_memory_by_hand():
  paid = fedtiny.FedTiny().round_cost(_PROFILE, _WORKLOAD, _uniform(), _BLOCKS)
  # P = floor(0.01 * 11,162,624) = 111,626. Values and gradients 8 (P + 11,338),
  # indices 4 P, pairs 8 ceil(0.3 P_block). The largest block, stage 4 unit 2 with
  # the classifier, has 2 * 2,359,296 + 5,120 weights: layers keep 23,592 each and
  # 51; what rounding left (11 weights) went to the first largest layer, which is
  # in stage 4 unit 1: 0.3 * 47,235 or 0.3 * 47,246 = 14,171 to 14,174 pairs.
  fixed = 8 * (111_626 + 11_338) + 4 * 111_626
  assert 8 * 14_171 <= paid.memory_bytes - fixed <= 8 * 14_174
  assert paid.memory.parameter_bytes == 4 * (111_626 + 11_338)
  assert paid.memory.gradient_bytes == 4 * (111_626 + 11_338)
  assert paid.memory.index_bytes == 4 * 111_626
  assert 1.54e6 * 0.995 <= paid.memory_bytes <= 1.63e6


@pytest.mark.parametrize("seed", range(3))
def test_fedtiny_memory_of_noisy_candidates_is_in_the_stated_range(seed):
  active = densities.noisy_counts(_spec(), 0.01, np.random.default_rng(seed))
  paid = fedtiny.FedTiny().round_cost(_PROFILE, _WORKLOAD, active, _BLOCKS)
  assert 1.54e6 * 0.995 <= paid.memory_bytes <= 1.63e6 * 1.005
  # About 98 % less than dense, and about 96.5 % less than PruneFL's 45.63 MB.
  assert 1 - paid.memory_bytes / 45.63e6 == pytest.approx(0.965, abs=0.002)


def test_prunefl_at_one_percent_and_what_fedtiny_saves():
  dense = cost.dense_cost(_PROFILE, _WORKLOAD)
  exact = cost.dense_gradient_cost(_EXACT, _WORKLOAD, _PROFILE.prunable)
  # 2 F_s + F_d of 3 F_d.
  ratio = exact.adjust_round_flops / dense.adjust_round_flops
  assert ratio == pytest.approx(0.3421, abs=5e-5)
  rounded = cost.dense_gradient_cost(_PROFILE, _WORKLOAD, _uniform())
  # 4 (111,626 + 11,338) + 4 * 111,626 + 4 * 11,173,962.
  assert rounded.memory_bytes == 45_634_208
  assert rounded.memory.gradient_bytes == 4 * 11_173_962
  assert rounded.memory_bytes / 1e6 == pytest.approx(45.63, rel=1e-4)
  ours = fedtiny.FedTiny().round_cost(_PROFILE, _WORKLOAD, _uniform(), _BLOCKS)
  assert ours.adjust_round_flops <= (1 - 0.9591) * rounded.adjust_round_flops
  assert ours.memory_bytes <= (1 - 0.9401) * rounded.memory_bytes


def test_pairs_and_flops_take_the_costliest_block():
  profile = ModelProfile(
    parameters=115, prunable=(10, 100), prunable_macs=(1000, 100), dense_macs=5,
    batch_norm_channels=0, activation_values=7, int8_bytes=0,
  )  # fmt: skip
  workload = device_cost.Workload(local_samples=3, local_epochs=2, batch_size=2)
  paid = fedtiny.FedTiny().round_cost(profile, workload, (5, 20), ((0,), (1,)))
  # Forward: 2 (1000 * 5/10 + 100 * 20/100 + 5) = 1050.
  assert paid.forward_flops == 1050.0
  # 3 examples twice, three forward passes each.
  assert paid.training_flops_per_round == 3 * 1050 * 6
  # Block 0 costs 2 * 1000 * 0.5 = 1000, block 1 only 2 * 100 * 0.8; 2 * 2 steps.
  assert paid.adjust_round_flops == 3 * 1050 + 1000 / 4
  # 25 active + 5 unpruned = 30 values and gradients, 25 indices; block 1 has the
  # most pairs: ceil(0.3 * 20) = 6.
  assert paid.memory_bytes == 8 * 30 + 4 * 25 + 8 * 6
  # 4 bytes * 7 outputs * 2 examples.
  assert paid.activation_bytes == 56
  # Three examples never fill a batch of 64.
  larger = dataclasses.replace(workload, batch_size=64)
  paid = fedtiny.FedTiny().round_cost(profile, larger, (5, 20), ((0,), (1,)))
  assert paid.activation_bytes == 4 * 7 * 3


@pytest.mark.parametrize(
  ("active", "pairs"),
  [
    # ceil(0.3 * 20) = 6 of block 1, before 3 of block 0.
    ((10, 20), 6),
    # Block 1 has 5 pruned weights left, block 0 three of ceil(0.3 * 7).
    ((7, 95), 5),
    ((7, 100), 3),
    ((10, 100), 0),
  ],
)
def test_no_more_weights_move_than_are_pruned(active, pairs):
  profile = ModelProfile(115, (10, 100), (1000, 100), 5, 0, 7, 0)
  paid = fedtiny.FedTiny().round_cost(
    profile, device_cost.Workload(3, 2, 2), active, ((0,), (1,))
  )
  assert paid.memory.buffer_bytes == 8 * pairs


class TestWhatMethodsAreCharged:
  PROFILE = ModelProfile(115, (10, 100), (1000, 100), 5, 0, 7, 0)
  WORKLOAD = device_cost.Workload(3, 2, 2)
  SPEC = support.spec_of_sizes(10, 100)

  def pay(self, name):
    return registry.get_strategy(name).round_cost(
      self.PROFILE, self.WORKLOAD, (5, 20), self.SPEC.blocks
    )

  def test_each_charges_its_own(self):
    assert self.pay("fedavg") == cost.dense_cost(self.PROFILE, self.WORKLOAD)
    sparse = (self.PROFILE, self.WORKLOAD, (5, 20))
    assert self.pay("prunefl") == cost.dense_gradient_cost(*sparse)

  def test_sparse_training_by_hand(self):
    paid = cost.sparse_cost(self.PROFILE, self.WORKLOAD, (5, 20))
    # 25 active and 5 unpruned weights; 2 (1000 * 5/10 + 100 * 20/100 + 5) FLOPs.
    assert paid.memory == device_cost.MemoryCost(120, 120, 100, 0)
    assert paid.forward_flops == 1050.0
    assert paid.adjust_round_flops == 3 * 1050.0
    more = cost.sparse_cost(
      self.PROFILE, self.WORKLOAD, (5, 20),
      adjust_extra_flops=7.0, gradient_bytes=460, buffer_bytes=3,
    )  # fmt: skip
    assert more.memory == device_cost.MemoryCost(120, 460, 100, 3)
    assert more.adjust_round_flops == 3 * 1050.0 + 7.0

  def test_what_is_sent_at_an_adjustment(self):
    def sent(name):
      plan = base.AdjustmentPlan(self.SPEC, 1, (7,), 0, 0)
      found = registry.get_strategy(name).adjustment(plan).statistics_specs()
      return [(s.shape.as_list(), s.dtype.name) for s in found]

    # An index and a value for each slot; one value for each of 110 weights.
    assert sent("fedtiny") == [([7], "int32"), ([7], "float32")]
    assert sent("prunefl") == [([110], "float32")]

  def test_only_fedavg_is_dense_and_only_fedtiny_selects(self):
    methods = {
      name: registry.get_strategy(name) for name in ("fedavg", "fedtiny", "prunefl")
    }
    assert [name for name, each in methods.items() if not each.is_sparse] == ["fedavg"]
    assert [name for name, each in methods.items() if each.selects] == ["fedtiny"]


def test_the_number_of_layers_must_agree():
  with pytest.raises(ValueError, match="zip"):
    cost.sparse_forward_flops(_PROFILE, (1, 2))


def test_a_layer_spec_is_enough_for_the_blocks():
  assert isinstance(_spec(), spec_lib.PrunableSpec)
  assert sum(_PROFILE.prunable) == 11_162_624


class TestChannelBlocks:
  """10 weights in pairs, 100 in fours, 20 single ones; the first two share a block."""

  PROFILE = ModelProfile(140, (10, 100, 20), (0, 0, 0), 0, 0, 0, 0, (2, 4, 1))

  def test_the_buffer_holds_an_index_for_each_group(self):
    paid = fedtiny.FedTiny().round_cost(
      self.PROFILE, device_cost.Workload(3, 2, 2), (4, 40, 10), ((0, 1), (2,))
    )
    # ceil(0.3 * 2) pairs of 4 + 8 bytes and ceil(0.3 * 10) fours of 4 + 16; the other
    # block has ceil(0.3 * 10) single weights of 8.
    assert paid.memory.buffer_bytes == 12 + 3 * 20
    other = fedtiny.FedTiny().round_cost(
      self.PROFILE, device_cost.Workload(3, 2, 2), (10, 100, 10), ((0, 1), (2,))
    )
    # Nothing is pruned in the first block.
    assert other.memory.buffer_bytes == 3 * 8

  def test_what_is_sent_at_an_adjustment(self):
    spec = support.spec_of_sizes(10, 100, 20, blocks=((0, 1), (2,)))
    pairs = spec.with_channel_block(2)

    def sent(layout):
      plan = base.AdjustmentPlan(layout, 0, (3, 4), 0, 0)
      found = fedtiny.FedTiny().adjustment(plan).statistics_specs()
      return [(s.shape.as_list(), s.dtype.name) for s in found]

    assert sent(pairs) == [([7], "int32"), ([14], "float32")]
    # 10 channels have no fours, but pairs: 3 * 2 + 4 * 4 values.
    fours = sent(spec.with_channel_block(4))
    assert fours == [([7], "int32"), ([22], "float32")]

  def test_squared_gradients_are_dense_whatever_the_blocks(self):
    spec = support.spec_of_sizes(10, 100).with_channel_block(2)
    plan = base.AdjustmentPlan(spec, 1, (4,), 0, 0)
    (found,) = prunefl.PruneFL().adjustment(plan).statistics_specs()
    assert found.shape.as_list() == [110]
