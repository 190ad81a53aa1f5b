"""A loop of one's own gives what the pipelines give, to the bit."""

import dataclasses
import io

import numpy as np
import pytest
import rich.console
import tensorflow as tf
import tensorflow_federated as tff

import fedtiny_tff
from fedtiny_tff.data import client_store
from fedtiny_tff.data.examples import Batch
from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.federated.runtimes import runtime
from fedtiny_tff.masked_models import keras_layout
from pipelines.apps.progress import Progress
from pipelines.datasets import data_folder, data_stage
from pipelines.runs import metrics_log, state_store
from pipelines.training import experiments, rounds_stage, selection_stage
from tests.pipelines import support

# Two candidates, a round without adjustment and one with.
CONFIG = support.make_config(
  model="digits_cnn", pool_size=2, clients_per_round=0, rounds=2, adjust_every_rounds=1,
  adjust_until_round=2, learning_rate_schedule="cosine", eval_every_rounds=2,
)  # fmt: skip


@pytest.fixture(name="data", scope="module")
def fixture_data(tmp_path_factory):
  experiment = experiments.plan_experiment(CONFIG)
  folder = tmp_path_factory.mktemp("same")
  data = data_stage.write_data(experiment.data, folder / "data")
  return experiment, _preprocessed(data, folder / "clients.records")


def _preprocessed(data, path):
  """Stores the clients' records as model inputs.

  Preprocessing in the client's graph rounds otherwise than outside of it.
  """
  features, labels = data_folder.read_all(data.clients)
  unchanged = Preprocessing(1.0, (0.0,), (1.0,))
  info = dataclasses.replace(data.info, feature_type="float32", preprocessing=unchanged)
  path.write_bytes(client_store.framed_records(Batch(features, labels), info))
  store = client_store.ClientStore(str(path), info, len(labels))
  return dataclasses.replace(data, clients=store)


def _datasets(data, *, held_out):
  """Returns each client's examples as the pipelines' model is fed with them."""
  made = []
  for first, training, development in data.references[:, 1:]:
    part = (first + training, development) if held_out else (first, training)
    features, labels = data.clients.decode(data.clients.read(*part))
    made.append(tf.data.Dataset.from_tensor_slices((features, labels)).batch(17))
  return made


def _plan():
  return fedtiny_tff.FedTinyPlan(
    **dataclasses.asdict(CONFIG.pruning),
    training=CONFIG.training,
    learning_rate_schedule=CONFIG.learning_rate_schedule,
  )


def _of_the_pipelines(experiment, data, weights, folder):
  """Returns the state before and after the rounds, and rows of candidates and events."""
  start = selection_stage.choose(CONFIG, data, experiment.models, weights)
  phase = rounds_stage.Phase(
    "sparse",
    CONFIG,
    data,
    experiment.models,
    state_store.StateStore(folder / "state"),
    metrics_log.MetricsLog(folder / "metrics.csv"),
    Progress(rich.console.Console(file=io.StringIO())),
  )
  return start, phase.run(start.state)


def _assert_equal(left, right):
  for one, other in zip(
    (*left.weights, left.mask), (*right.weights, right.mask), strict=True
  ):
    np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_masks_and_weights_are_the_pipelines(data, tmp_path):
  experiment, data = data
  weights = selection_stage.pretrain(CONFIG, data, experiment.models.pretrained)
  layout = keras_layout.lay_out(experiment.models.pretrained)
  initial = tff.learning.models.ModelWeights(*layout.read(weights))

  def model_fn():
    return fedtiny_tff.get_model("digits_cnn", (8, 8, 1), 10)

  with runtime.LocalRuntime():
    start, result = _of_the_pipelines(experiment, data, weights, tmp_path)
    candidate = fedtiny_tff.select_candidate(
      model_fn, _plan(), _datasets(data, held_out=True), initial_weights=initial
    )
    process = fedtiny_tff.build_fedtiny(model_fn, _plan(), candidate=candidate)
    state, outputs = process.initialize(), []
    for _ in range(CONFIG.rounds):
      outputs.append(process.next(state, _datasets(data, held_out=False)))
      state = outputs[-1].state
  losses = [row["loss"] for row in start.candidates]
  np.testing.assert_allclose(candidate.losses, losses, atol=1e-6)
  assert start.candidates[candidate.chosen]["chosen"] == 1
  _assert_equal(candidate.state, start.state)
  assert np.any(start.state.mask != result.state.mask)
  _assert_equal(state, result.state)
  for output, row in zip(outputs, result.rows, strict=True):
    found = output.metrics
    train = found["client_work"]["train"]
    assert train["loss"] == pytest.approx(row["train_loss"], abs=1e-6)
    assert found["finalizer"]["density"] == pytest.approx(row["density"])
    assert found["aggregator"]["bytes_per_client"] == row["bytes_up_per_client"]
    assert found["distributor"]["bytes_per_client"] == row["bytes_down_per_client"]
  [event] = result.events
  dropped = sum(layer["dropped"] for layer in event["layers"])
  assert [output.metrics["finalizer"]["dropped"] for output in outputs] == [0, dropped]
