"""Tests of the decision in a run directory, with TFF's own runtime."""

import dataclasses
import json
import os
import pathlib
import signal

import jsonschema
import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff import tasks
from fedtiny_tff.data import client_store
from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.runtimes import remote_runtime, runtime
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder, data_stage
from pipelines.runs import model_files, state_store
from pipelines.runs.run_directory import RunDirectory
from pipelines.training import quantisation_stage
from tests.fedtiny_tff.federated.runtimes import workers
from tests.pipelines import support
from tflite_export.conversion.convert_quantised import convert_quantised
from tflite_export.runtimes.weights import check_masked_zeros

layers = tf.keras.layers
CHANGES = {"client_optimizer": "adam", "client_learning_rate": 0.01, "local_epochs": 2}


def unlike_scales(data: data_folder.RunData, spread: float):
  """A small pruned network for digits with hidden units of very unlike scales."""
  features, labels = data_folder.read_all(
    dataclasses.replace(data.clients, num_records=600)
  )
  tf.keras.utils.set_random_seed(0)
  inputs = layers.Input((8, 8, 1))
  x = layers.Flatten(name="flat")(inputs)
  x = layers.Dense(24, activation="relu", name="hidden")(x)
  model = tf.keras.Model(inputs, layers.Dense(10, name="logits")(x))
  loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(tf.keras.optimizers.Adam(5e-3), loss)
  model.fit(features, labels, epochs=12, batch_size=32, verbose=0)
  # The same function: ReLU passes factors on.
  factors = 10 ** np.random.default_rng(0).uniform(-spread, spread, 24)
  first, second = model.get_layer("hidden"), model.get_layer("logits")
  kernel = first.kernel.numpy()
  mask = np.abs(kernel) > np.quantile(np.abs(kernel), 0.3)
  first.kernel.assign((kernel * mask * factors).astype(np.float32))
  first.bias.assign(first.bias * factors.astype(np.float32))
  second.kernel.assign(second.kernel / factors[:, np.newaxis].astype(np.float32))
  masks = {"hidden": mask, "logits": np.ones((24, 10), bool)}
  return tf.keras.models.clone_model(model), model.get_weights(), masks


@dataclasses.dataclass(frozen=True)
class Case:
  """A run directory with a model that quantisation hurts."""

  path: pathlib.Path
  data: data_folder.RunData

  def quantise(self, mode: str, **changes):
    made = support.make_config(
      output_dir=str(self.path),
      quantisation_aware=mode,
      **({"quantisation_aware_rounds": 2} | CHANGES | changes),
    )
    run = RunDirectory(self.path)
    return quantisation_stage.quantise(made, run, self.data, Progress())

  @property
  def states(self) -> list[str]:
    folder = RunDirectory(self.path).state / "quantisation"
    return sorted(path.name for path in folder.glob("*"))


def make_case(path, spread: float) -> Case:
  run = RunDirectory(path)
  plan = support.plan_data(support.make_config())
  data = data_stage.write_data(plan, run.data)
  model, weights, masks = unlike_scales(data, spread)
  model.set_weights(weights)
  model_files.save(run.model, model, masks, tasks.CLASSIFY)
  return Case(path, data)


@pytest.fixture(scope="module")
def hurt(tmp_path_factory) -> Case:
  return make_case(tmp_path_factory.mktemp("hurt") / "run", 1.3)


@pytest.fixture(scope="module")
def outcome(hurt):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(state_store, "_KEEP", 3)
    return hurt.quantise("auto")


def check_schema(facts) -> None:
  text = (support.ROOT / "pipelines" / "report.schema.json").read_text()
  schema = json.loads(text)
  part = schema["properties"]["quantisation"] | {"$defs": schema["$defs"]}
  jsonschema.Draft202012Validator(part).validate(facts)


def check_same(again, outcome):
  assert again.facts == outcome.facts
  for one, two in zip(
    again.model.get_weights(), outcome.model.get_weights(), strict=True
  ):
    np.testing.assert_array_equal(one, two)


class TestAuto:
  def test_trains_where_a_point_is_lost_and_wins_some_back(self, outcome):
    facts = outcome.facts
    check_schema(facts)
    assert facts["post_training"] < facts["float"] - 0.01
    assert facts["quantisation_aware"] > facts["post_training"] + 0.01
    assert (facts["chosen"], facts["rounds"]) == ("quantisation_aware", 2)
    # Four clients, all of whom decide; 0.1 of the last round's rate.
    assert (facts["clients"], facts["figure"]) == (4, "accuracy")
    assert facts["learning_rate"] == pytest.approx(0.001)
    assert facts["bytes_up_per_client"] > 0

  def test_the_model_becomes_a_file_with_its_zeros(self, hurt, outcome):
    _, masks = model_files.load(RunDirectory(hurt.path).model)
    content = convert_quantised(outcome.model, masks)
    assert check_masked_zeros(content, masks).layer_density["hidden"] <= 0.71

  def test_is_finished_and_not_begun_again(self, hurt, outcome, monkeypatch):
    monkeypatch.setattr(quantisation_stage.runtimes, "choose", None)
    check_same(hurt.quantise("auto"), outcome)

  def test_goes_on_after_an_interrupted_round_to_the_same_bytes(self, hurt, outcome):
    folder = RunDirectory(hurt.path).state / "quantisation"
    store = state_store.StateStore(folder)
    kept = [f"round_00000{version}.state" for version in (1, 2, 3)]
    assert hurt.states == kept
    # The last round, and what was found of it.
    for name in kept[1:]:
      (folder / name).unlink()
    latest = store.load_latest()
    assert latest is not None
    assert latest[0] == 1
    check_same(hurt.quantise("auto"), outcome)

  @pytest.mark.slow
  def test_leaves_a_model_alone_that_loses_nothing(self, tmp_path):
    case = make_case(tmp_path / "run", 0.0)
    found = case.quantise("auto")
    check_schema(found.facts)
    assert found.model is None
    assert found.facts["quantisation_aware"] is None
    assert (found.facts["chosen"], found.facts["rounds"]) == ("post_training", 0)

  @pytest.mark.slow
  def test_does_not_depend_on_what_was_demanded_before(self, tmp_path):
    case = make_case(tmp_path / "run", 0.0)
    demanded = case.quantise("always")
    assert demanded.facts["rounds"] == 2
    found = case.quantise("auto")
    assert (found.model, found.facts["rounds"]) == (None, 0)

  def test_says_which_layer_cannot_be_quantised(self, tmp_path, hurt):
    inputs = layers.Input((8, 8, 1))
    x = layers.PReLU(name="odd")(layers.Flatten(name="flat")(inputs))
    model = tf.keras.Model(inputs, layers.Dense(10, name="logits")(x))
    masks = {"logits": np.ones((64, 10), bool)}
    run = RunDirectory(tmp_path / "run")
    model_files.save(run.model, model, masks, tasks.CLASSIFY)
    case = Case(run.path, hurt.data)
    found = case.quantise("auto")
    check_schema(found.facts)
    assert found.model is None
    assert "'odd' (PReLU)" in found.facts["reason"]
    with pytest.raises(InputError, match=r"'odd' \(PReLU\)"):
      case.quantise("always")


class _Killed(runtime.LocalRuntime):
  """A runtime whose worker is killed as soon as it runs."""

  def __enter__(self):
    super().__enter__()
    (pid,) = self.worker_pids
    os.kill(pid, signal.SIGKILL)
    return self


def _away(made):
  """Returns a runtime whose worker is not there, and which does not wait long."""
  (port,) = workers.free_ports(1)
  return remote_runtime.RemoteRuntime([f"127.0.0.1:{port}"], return_seconds=0.2)


@pytest.mark.parametrize(
  ("choose", "said"),
  [
    pytest.param(lambda made: _Killed(), "worker on this machine ended", id="killed"),
    pytest.param(_away, "no answer in 0.2 s from worker", id="away"),
  ],
)
def test_a_lost_worker_is_no_fault_of_the_model(
  hurt, tmp_path, monkeypatch, choose, said
):
  run = RunDirectory(tmp_path / "run")
  model, masks = model_files.load(RunDirectory(hurt.path).model)
  model_files.save(run.model, model, masks, tasks.CLASSIFY)
  monkeypatch.setattr(quantisation_stage.runtimes, "choose", choose)
  with pytest.raises(InputError, match=said):
    Case(run.path, hurt.data).quantise("auto")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"quantisation_aware": "sometimes"}, "auto, never, always, public, got 'some"),
    ({"quantisation_aware_rounds": 0}, "rounds must be at least 1, got 0"),
    ({"quantisation_aware_learning_rate": -0.1}, "at least 0.0, got -0.1"),
    ({"quantisation_aware_learning_rate": float("nan")}, "finite"),
  ],
)
def test_wrong_flags_are_refused(changes, message):
  with pytest.raises(InputError, match=message):
    support.make_config(**changes)


class TestOtherModes:
  def test_never_measures_nothing(self, tmp_path, hurt):
    found = Case(tmp_path / "absent", hurt.data).quantise("never")
    check_schema(found.facts)
    assert found.model is None
    assert found.facts["chosen"] == "post_training"
    assert not (tmp_path / "absent").exists()

  def test_public_refuses_few_samples(self, hurt):
    # Three of each of ten classes.
    with pytest.raises(InputError, match="30 public examples, needed are 100"):
      hurt.quantise("public")

  @pytest.mark.slow
  def test_public_trains_on_the_servers_samples(self, tmp_path, hurt):
    run = RunDirectory(tmp_path / "run")
    model, masks = model_files.load(RunDirectory(hurt.path).model)
    model_files.save(run.model, model, masks, tasks.CLASSIFY)
    changes = {"public_samples_per_class": 20}
    plan = support.plan_data(support.make_config(**changes))
    data = data_stage.write_data(plan, run.data)
    found = Case(run.path, data).quantise("public", **changes)
    check_schema(found.facts)
    assert found.facts["public_examples"] == 200
    assert (found.facts["rounds"], found.facts["bytes_up_per_client"]) == (0, 0)
    assert found.facts["quantisation_aware"] > found.facts["post_training"]


class TestOtherModel:
  @pytest.mark.slow
  def test_a_model_without_classes_is_judged_by_its_loss(self, tmp_path, hurt):
    inputs = layers.Input((8, 8, 1))
    x = layers.Dense(8, use_bias=False, name="code")(
      layers.Flatten(name="flat")(inputs)
    )
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    model = tf.keras.Model(inputs, layers.Dense(64, name="again")(x))
    masks = {"code": np.ones((64, 8), bool), "again": np.ones((8, 64), bool)}
    run = RunDirectory(tmp_path / "run")
    model_files.save(run.model, model, masks, tasks.RECONSTRUCT)
    found = Case(run.path, hurt.data).quantise("always")
    check_schema(found.facts)
    assert found.facts["figure"] == "loss"
    # It was never trained before.
    assert found.facts["quantisation_aware"] < found.facts["float"]
    assert found.facts["chosen"] == "quantisation_aware"

  @pytest.mark.slow
  def test_states_of_another_model_are_not_continued(self, tmp_path):
    case = make_case(tmp_path / "run", 1.3)
    case.quantise("always", quantisation_aware_rounds=1)
    run = RunDirectory(case.path)
    model, masks = model_files.load(run.model)
    model.get_layer("logits").bias.assign_add(tf.ones([10]))
    model_files.save(run.model, model, masks, tasks.CLASSIFY)
    found = case.quantise("always", quantisation_aware_rounds=1)
    fresh = make_case(tmp_path / "fresh", 1.3)
    model_files.save(RunDirectory(fresh.path).model, model, masks, tasks.CLASSIFY)
    assert found.facts == fresh.quantise("always", quantisation_aware_rounds=1).facts


def test_the_test_split_is_not_read(hurt, monkeypatch):
  read: list[str] = []
  original = client_store.ClientStore.read

  def spying(self, first, count):
    read.append(self.path)
    return original(self, first, count)

  monkeypatch.setattr(client_store.ClientStore, "read", spying)
  hurt.quantise("auto", quantisation_aware_rounds=1)
  assert read
  assert not any("test" in path.rpartition("/")[2] for path in read)
