"""What devices get is the run's: its blocks with events, and methods they can do."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from fedtiny_tff.devices import device_messages, device_tasks
from fedtiny_tff.devices.device_messages import Envelope, TensorLayout
from fedtiny_tff.errors import InputError
from fedtiny_tff.sparsity import schedules
from fedtiny_tff.strategies import base, fedtiny, registry
from pipelines.devices import device_bundles
from tests.pipelines import support
from tests.tflite_export.device_training import device_model_test as tiny
from tflite_export.device_training import device_bundle, device_runtime

# Of the three layers in two blocks only the second block's are adjusted.
EVENTS = (
  schedules.AdjustmentEvent(1, 1, (3, 1)),
  schedules.AdjustmentEvent(2, 1, (2, 4)),
)


def config(**changes):
  return support.make_config(
    **{"batch_size": tiny.BATCH, "rounds": 7, "local_epochs": 2} | changes
  )


def models(strategy: base.Strategy) -> base.ModelPlan:
  return base.plan_one_model(strategy, tiny.tiny())


class Planned(fedtiny.FedTiny):
  """FedTiny with the events that a test wants."""

  def __init__(self, *events):
    self._events = events

  def plan_events(self, spec, active_counts, config):
    return self._events


@functools.cache
def bundle() -> device_bundle.DeviceBundle:
  return device_bundles.bundle_of(config(), models(Planned(*EVENTS)), 100)


def test_the_plan_is_the_run_s():
  plan = bundle().plan
  assert (plan.rounds, plan.batch_size, plan.local_epochs) == (7, tiny.BATCH, 2)
  assert (plan.seed, plan.model.active) == (support.TINY["seed"], 100)
  assert [block.layers for block in plan.blocks] == [
    ("pointwise",),
    ("hidden", "logits"),
  ]


def test_a_block_without_events_keeps_its_number_and_sends_nothing():
  plan = bundle().plan
  assert plan.blocks[0].statistics == {}
  # The largest events of both layers: 3 and 4 weights.
  assert plan.blocks[1].statistics == {
    "indices": TensorLayout("int32", (7,)),
    "values": TensorLayout("float32", (7,)),
  }
  names = Interpreter(model_content=bundle().content).get_signature_list()
  assert {name for name in names if name.startswith("top")} == {"top_gradients_1"}


@pytest.mark.slow
def test_the_file_is_the_same_for_the_same_run():
  again = device_bundles.bundle_of(config(), models(Planned(*EVENTS)), 100)
  assert again == bundle()


@pytest.mark.slow
def test_where_all_layers_are_dense_empty_statistics_are_sent():
  nothing = schedules.AdjustmentEvent(3, 0, (0,))
  made = device_bundles.bundle_of(config(), models(Planned(*EVENTS, nothing)), 100)
  assert made.plan.blocks[0].statistics == {
    "indices": TensorLayout("int32", (0,)),
    "values": TensorLayout("float32", (0,)),
  }
  weights, mask = tiny.start()
  mask = mask & (np.cumsum(mask) <= 100)
  message = device_messages.write(Envelope("round", made.plan.digest, 3), {
    "active_values": weights.prunable[mask],
    "positions": np.packbits(mask),
    "dense": weights.dense,
    "batch_norm_mean": weights.batch_norm_mean,
    "batch_norm_variance": weights.batch_norm_variance,
    "learning_rate": np.array([0.1], np.float32),
    "counts": np.zeros(1, np.int32),
  })  # fmt: skip
  examples = device_runtime.DeviceExamples(
    np.ones((3, *tiny.SHAPE), np.float32), np.zeros(3, np.int32)
  )
  device = device_runtime.DeviceRuntime(made.content, made.plan, 0, examples, examples)
  answer = device.train(message, 3, 0, lambda done, of: None)
  digest = device_tasks.message_digest(message)
  envelope = Envelope("update", made.plan.digest, 3, 0, digest)
  found = device_messages.read(answer, envelope, made.plan.update_layouts(0))
  assert found["statistics.values"].size == 0


def test_there_is_room_for_the_events_of_every_candidate():
  made = config(pool_size=5, layer_densities="noisy", adjust_every_rounds=1, rounds=9)
  plan, pruning = models(fedtiny.FedTiny()), made.pruning
  found = device_bundles.possible_events(plan, pruning)
  spec = plan.trained.spec
  drawn = plan.strategy.candidate_counts(spec, pruning)
  assert len(set(drawn)) > 1
  for counts in drawn:
    assert set(plan.strategy.plan_events(spec, counts, pruning)) <= set(found)


def test_without_events_no_block_has_a_signature():
  request = device_bundles.request_of(config(), models(base.Strategy()), 100)
  assert request.blocks == [None, None]


def test_methods_for_devices():
  assert device_bundles.strategies_for_devices() == (
    "fedavg", "fedtiny", "fl_pqsu", "snip", "synflow", "small_dense",
  )  # fmt: skip


@pytest.mark.parametrize(
  ("name", "reason"),
  [
    ("prunefl", "train in a way of their own"),
    ("fedrts", "train in a way of their own"),
    ("feddst", "train in a way of their own"),
    ("lotteryfl", "its masks shrink"),
    ("fedmef", "train other layers"),
  ],
)
def test_other_methods_are_refused(name, reason):
  strategy = registry.get_strategy(name)
  spec = tiny.tiny().spec.with_blocks([range(3)])
  whole = base.plan_one_model(strategy, tiny.tiny())
  whole = whole._replace(trained=dataclasses.replace(tiny.tiny(), spec=spec))
  adjusting = config(granularity="entire", adjust_every_rounds=1, target_density=0.4)
  with pytest.raises(
    InputError, match=f"--strategy={name}: .*{reason}.*; choose one of"
  ):
    device_bundles.request_of(adjusting, whole, 100)


def test_a_penalty_is_refused():
  class Penalising(base.Strategy):
    name = "penalising"

    def client_penalty(self, spec, events):
      return lambda prunable, mask, round_index: lambda kernels: tf.constant(0.0)

  with pytest.raises(InputError, match="add a penalty"):
    device_bundles.request_of(config(), models(Penalising()), 100)


@pytest.mark.parametrize(
  ("changes", "flag"),
  [
    ({"batch_size": 1}, "--batch_size=1"),
    ({"compute_dtype": "bfloat16"}, "--compute_dtype"),
    ({"augmentations": ["flip"]}, "--augmentations=flip"),
  ],
)
def test_flags_that_devices_do_not_have_are_refused(changes, flag):
  with pytest.raises(InputError, match=flag):
    device_bundles.bundle_of(config(**changes), models(base.Strategy()), 100)
