"""Devices compute the simulated round: digits, selection, ten rounds, two events.

Each round starts from the same state for both; then both run freely. Real LiteRT, TFF's
own runtime, and the folder between them.

Where an activation lies on the edge of ReLU or of a maximum, the last bit of a sum decides
which way a gradient goes, and a round of the simulation itself ends elsewhere when its
weights are changed by their last bit. Such rounds are held to what that does.
"""

import dataclasses
import subprocess
import types
from typing import Any

import numpy as np
import pytest

from fedtiny_tff.federated.runtimes import runtime
from fedtiny_tff.federated.training_rounds import rounds
from pipelines import device_data, stages
from pipelines.apps.progress import Progress
from pipelines.datasets import data_stage
from pipelines.devices import device_examples
from pipelines.runs import model_files, participation, state_store
from pipelines.runs.run_directory import RunDirectory
from pipelines.training import device_stage, experiments, selection_stage
from tests.pipelines import support
from tests.pipelines.devices import device_threads
from tflite_export.arm64 import arm64_setup

pytestmark = pytest.mark.slow

CLIENTS = 5
DIGITS: dict[str, Any] = {
  "dataset": "digits", "model": "digits_cnn", "public_samples_per_class": 10,
  "pretrain_epochs": 20, "target_density": 0.1, "pool_size": 4, "num_clients": CLIENTS,
  "clients_per_round": CLIENTS, "rounds": 10, "local_epochs": 1, "batch_size": 32,
  "client_learning_rate": 0.1, "adjust_every_rounds": 3, "adjust_until_round": 7,
  "eval_every_rounds": 5, "dense_baseline": False, "quantisation_aware": "never",
  "targets": [],
}  # fmt: skip
EVENTS = (3, 6)
DENSE = ("dense", "batch_norm_mean", "batch_norm_variance")
# Prunable layers of the model, and these.
PARTS = 5 + len(DENSE)
# Of a layer's largest absolute value; of a score; of the mask's bits.
WEIGHTS, TIE, BITS = 1e-4, 1e-5, 1e-3
# Of a weight: half the distance to the next float32, up to twice that.
LAST_BIT = 1e-7
# Rounds that may be held to more than the limit above; one was seen.
MOST_EDGES = 2


class Pair:
  """The same run twice, up to its first round: simulated, and of devices."""

  def __init__(self, path, exchange):
    self.config = support.make_config(
      **DIGITS, output_dir=str(path / "run"), device_exchange=str(exchange)
    )
    self.experiment = experiments.plan_experiment(self.config)
    self.data = data_stage.write_data(self.experiment.data, path / "data")
    self.models = self.experiment.models
    self.weights = selection_stage.pretrain(
      self.config, self.data, self.models.pretrained
    )
    self.devices = [
      device_threads.Device(exchange, client, self.data) for client in range(CLIENTS)
    ]
    self.store = state_store.StateStore(path / "state")

  def builder(self, start, **options) -> rounds.RoundBuilder:
    spec, strategy = self.models.trained.spec, self.models.strategy
    counts = spec.active_counts(np.asarray(start.mask))
    return rounds.RoundBuilder(
      self.models.trained, self.data.clients, self.config.training, strategy,
      strategy.plan_events(spec, counts, self.config.pruning),
      active_count=int(np.count_nonzero(start.mask)), seed=self.config.seed, **options,
    )  # fmt: skip


@pytest.fixture(name="found", scope="module")
def fixture_found(tmp_path_factory):
  """Runs selection and every round both ways; returns what came of each."""
  path = tmp_path_factory.mktemp("proof")
  pair = Pair(path, path / "exchange")
  found = types.SimpleNamespace(pair=pair, rounds=[], limits=[])
  with device_threads.working(pair.devices), runtime.LocalRuntime():
    federation, references = device_stage.open_federation(
      pair.config, pair.data, pair.models, pair.weights, pair.store, Progress()
    )
    found.references = references
    told = dataclasses.replace(pair.data, references=references)
    shared = (pair.config, pair.data, pair.models, pair.weights)
    found.simulated = selection_stage.choose(*shared)
    found.on_devices = selection_stage.choose(
      pair.config, told, pair.models, pair.weights, federation
    )
    state = found.simulated.state
    simulated = pair.builder(state)
    received = pair.builder(state, **federation.builder_options())
    for number in range(pair.config.rounds):
      who = participation.of_round(pair.config, told, number, 0)
      instruction = simulated.instruction(number, pair.config.learning_rate(number))
      clients = participation.chosen(pair.config, pair.data, "participants", number)
      wanted, wanted_sums = simulated.computation(number).run(
        state, clients, instruction
      )
      who, reports = federation.gather(received, state, instruction, who)
      got, sums = received.computation(number).run(state, reports, instruction)
      shaken = [
        simulated.computation(number).run(_shaken(state, seed), clients, instruction)[0]
        for seed in range(3)
        if _distances(pair, got, wanted).max() > WEIGHTS
      ]
      found.rounds.append((state, wanted, got, wanted_sums, sums))
      found.limits.append(
        np.max(
          [[WEIGHTS] * PARTS, *(2.0 * _distances(pair, s, wanted) for s in shaken)], 0
        )
      )
      state = wanted
    federation.finish()
  return found


def test_devices_say_what_the_server_would_know(found):
  np.testing.assert_array_equal(
    found.references[:, 2:], found.pair.data.references[:, 2:]
  )


def test_the_same_candidate_is_chosen_by_the_same_scores(found):
  for wanted, got in zip(
    found.simulated.candidates, found.on_devices.candidates, strict=True
  ):
    assert got["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
    assert (got["accuracy"], got["chosen"]) == (wanted["accuracy"], wanted["chosen"])
  wanted, got = found.simulated.state, found.on_devices.state
  np.testing.assert_array_equal(got.mask, wanted.mask)
  _near(got.weights.batch_norm_mean, wanted.weights.batch_norm_mean)
  _near(got.weights.batch_norm_variance, wanted.weights.batch_norm_variance)


def test_weights_are_near_after_every_round(found):
  distances = [
    _distances(found.pair, got, wanted) for _, wanted, got, _, _ in found.rounds
  ]
  for number, (distance, limit) in enumerate(zip(distances, found.limits, strict=True)):
    print(f"round {number}: {distance.max():.1e} of a layer's largest weight")
    assert (distance <= limit).all(), f"round {number}: {distance} {limit}"
  assert sum((limit > WEIGHTS).any() for limit in found.limits) <= MOST_EDGES


def test_masks_are_the_same_but_for_ties(found):
  moved = []
  for number, (before, wanted, got, _, _) in enumerate(found.rounds):
    if (wanted.mask != before.mask).any():
      moved.append(number)
    others = np.flatnonzero(wanted.mask != got.mask)
    assert len(others) <= BITS * wanted.mask.size, f"round {number}: {others}"
    _check_ties(found, number, others)
  assert tuple(moved) == EVENTS


def test_all_reports_count_and_train_alike(found):
  for _, _, _, wanted, sums in found.rounds:
    assert (sums.accepted, sums.examples) == (CLIENTS, wanted.examples)
    assert sums.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-3)


@pytest.fixture(name="simulated", scope="module")
def fixture_simulated(tmp_path_factory):
  """A run of simulated clients; its folder and its report."""
  path = tmp_path_factory.mktemp("simulated") / "run"
  with RunDirectory(path) as run:
    made = stages.train(
      support.make_config(**DIGITS, output_dir=str(path)), run, Progress()
    )
  return path, made


def test_free_runs_end_alike(simulated, tmp_path):
  pair = Pair(tmp_path, tmp_path / "exchange")
  with device_threads.working(pair.devices):
    _check_alike(simulated, _run_freely(pair, tmp_path))
  assert not (tmp_path / "run" / "clients.csv").exists()
  assert not (tmp_path / "run" / "client_labels.csv").exists()


@pytest.mark.skipif(bool(arm64_setup.problem()), reason=arm64_setup.problem())
def test_free_runs_end_alike_with_one_client_on_arm(simulated, tmp_path):
  pair = Pair(tmp_path, tmp_path / "exchange")
  (tmp_path / "exchange").mkdir()
  data = tmp_path / "client.safetensors"
  device_examples.write(data, device_data.reader(pair.data)(CLIENTS - 1))
  emulator = arm64_setup.find()
  assert emulator is not None
  command = emulator.command(
    "pipelines.device_client", f"--exchange={tmp_path / 'exchange'}",
    f"--client={CLIENTS - 1}", f"--data={data}",
  )  # fmt: skip
  environment = emulator.environment(str(tmp_path))
  with device_threads.working(pair.devices[:-1]):
    on_arm = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    try:
      _check_alike(simulated, _run_freely(pair, tmp_path))
      _, said = on_arm.communicate(timeout=120)
    finally:
      on_arm.kill()
      on_arm.wait()
  assert on_arm.returncode == 0, said


def _run_freely(pair, path):
  """Runs the pair's configuration with its devices; returns its folder and report."""
  values = {**pair.config.values, "output_dir": str(path / "run")}
  config = dataclasses.replace(pair.config, values=values)
  with RunDirectory(path / "run") as run:
    return path / "run", stages.train(config, run, Progress())


def _check_alike(simulated, on_devices):
  made = [simulated[1], on_devices[1]]
  chosen = [[row["chosen"] for row in each["selection"]] for each in made]
  assert chosen[0] == chosen[1]
  accuracies = [each["accuracy"]["sparse"] for each in made]
  assert accuracies[1] == pytest.approx(accuracies[0], abs=0.005)
  masks = [
    np.concatenate(
      [mask.ravel() for mask in model_files.load(path / "model")[1].values()]
    )
    for path, _ in (simulated, on_devices)
  ]
  print(f"accuracy {accuracies}, equal mask bits {(masks[0] == masks[1]).mean():.4%}")
  assert (masks[0] == masks[1]).mean() > 0.9


def _shaken(state, seed):
  """Returns a state whose weights are changed by their last bit."""
  generator = np.random.default_rng(seed)
  way = generator.choice([-LAST_BIT, LAST_BIT], state.weights.prunable.shape)
  prunable = (state.weights.prunable * (1.0 + way)).astype(np.float32)
  return state._replace(weights=state.weights._replace(prunable=prunable))


def _distances(pair, got, wanted):
  """Returns how far two models are apart, each layer by its largest absolute value."""
  spec, both = pair.models.trained.spec, wanted.mask & got.mask
  parts = [spec.slice(layer) for layer in range(len(spec.layers))]
  pairs = [
    *(
      ((got.weights.prunable * both)[p], (wanted.weights.prunable * both)[p])
      for p in parts
    ),
    *((getattr(got.weights, n), getattr(wanted.weights, n)) for n in DENSE),
  ]
  return np.array([np.abs(a - b).max() / np.abs(b).max() for a, b in pairs])


def _near(got, wanted):
  np.testing.assert_allclose(got, wanted, rtol=0, atol=WEIGHTS * np.abs(wanted).max())


def _check_ties(found, number, others):
  """Shows that where masks differ, the server had next to nothing to choose by."""
  if not len(others):
    return
  _, wanted, got, _, _ = found.rounds[number]
  values = np.where(wanted.mask, wanted.weights.prunable, got.weights.prunable)[others]
  # Dropped by magnitude: one model kept it, the other did not.
  kept = np.abs(values[values != 0.0])
  print(
    f"round {number}: masks differ at {others.tolist()}, kept there: {kept.tolist()}"
  )
  assert len(kept) == 0 or np.ptp(kept) <= TIE * kept.max()
