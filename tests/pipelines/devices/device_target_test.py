"""A run's client for devices: refused before training, exported after it."""

import json

import jsonschema
import pytest
import tensorflow as tf

from fedtiny_tff.devices import device_plan
from fedtiny_tff.errors import InputError
from fedtiny_tff.strategies import registry as strategies
from pipelines import export, stages
from pipelines import inspect as inspect_app
from pipelines.devices import device_bundles, device_target
from pipelines.models import cost_figures, planned_model
from pipelines.training import experiments
from tests.pipelines import support
from tests.pipelines.exports import keras_files

TARGET = "device_client"
MODEL = "export/device_client/model.tflite"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"strategy": "prunefl"}, "--strategy=prunefl: .* choose one of fedavg, fedtiny"),
    ({"batch_size": 1}, "--batch_size=1"),
    ({"channel_block": 2}, "--channel_block"),
  ],
)
def test_what_devices_cannot_do_is_refused_before_training(changes, message):
  made = support.make_config(targets=[TARGET], **changes)
  with pytest.raises(InputError, match=message):
    experiments.plan_experiment(made)
  # Without the target nothing is the matter.
  experiments.plan_experiment(support.make_config(targets=[], **changes))


def test_integers_are_measured_for_files_of_integers_only():
  named = stages.expected(support.make_config(quantisation_aware="auto"), [TARGET])
  assert "export_quantisation" not in named
  assert "export_device_client" in named


def test_a_keras_file_has_no_rounds(tmp_path, capsys):
  # Nothing of it is even read.
  given = (tmp_path / "net.keras", tmp_path / "d.npz", tmp_path / "out")
  arguments = keras_files.arguments(*given)
  assert keras_files.call(*arguments, "--targets=android,device_client") == 2
  assert "--targets=device_client: rounds" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_own_model_that_cannot_be_trained_is_refused_before_training(tmp_path):
  layers = tf.keras.layers
  inputs = layers.Input((8, 8, 1))
  x = layers.Conv2D(4, 3, activation="gelu", name="first")(inputs)
  outputs = layers.Dense(10, name="logits")(layers.Flatten(name="flat")(x))
  path = tmp_path / "own.keras"
  tf.keras.Model(inputs, outputs).save(path)
  made = support.make_config(model=str(path), targets=[TARGET], adjust_until_round=0)
  with pytest.raises(InputError, match="cannot be trained on a device"):
    experiments.plan_experiment(made)


@pytest.fixture(name="untrained", scope="module")
def fixture_untrained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "made"
  return support.make_untrained_run(folder, quantisation_aware="auto")


@pytest.fixture(name="exported", scope="module")
def fixture_exported(untrained):
  arguments = (f"--run_dir={untrained.path}", f"--targets={TARGET}")
  assert support.call("export", export.main, *arguments) == 0
  return json.loads((untrained.path / "report.json").read_text())


@pytest.mark.slow
def test_the_report_tells_of_the_client(untrained, exported):
  schema = json.loads((support.ROOT / "pipelines" / "report.schema.json").read_text())
  jsonschema.validate(exported, schema)
  (row,) = exported["artifacts"]
  assert (row["path"], row["format"]) == (MODEL, "fp32_training")
  assert row["density"] == support.ACTIVE / support.PRUNABLE
  assert exported["accuracy"][MODEL] == row["accuracy"]
  # Nothing was calibrated, and what was measured before stays.
  assert exported["calibration"] == {}
  assert exported["quantisation"] == untrained.report["quantisation"]
  assert "that devices train" in (untrained.path / "report.html").read_text()


@pytest.mark.slow
def test_file_and_plan_are_those_of_the_run_s_server(untrained, exported):
  del exported
  made = untrained.config
  strategy = strategies.get_strategy(made.strategy)
  models = planned_model.plan_models(made, (8, 8, 1), 10, strategy)
  served = device_bundles.bundle_of(made, models, support.ACTIVE)
  folder = untrained.path / "export" / TARGET
  assert (folder / "model.tflite").read_bytes() == served.content
  text = (folder / "client_plan.json").read_text()
  assert text == served.plan.as_json()
  assert device_plan.read_plan(text, "plan") == served.plan


@pytest.mark.slow
def test_the_client_can_be_inspected(untrained, exported, capsys):
  del exported
  arguments = (str(untrained.path / MODEL),)
  found = support.app.run_app(
    inspect_app.main, "", {}, ["inspect", *arguments], arguments=["FILE.tflite"]
  )
  assert found == 0
  assert "Functions: bn_statistics, evaluate, get_weights" in capsys.readouterr().out


@pytest.mark.slow
def test_a_dry_run_tells_its_size():
  made = support.make_config(targets=[TARGET])
  strategy = strategies.get_strategy(made.strategy)
  models = planned_model.plan_models(made, (8, 8, 1), 10, strategy)
  plan = cost_figures.expected_plan(strategy, models.trained, made.pruning, "none")
  request = device_target.planned_request(made, models, plan)
  assert request is not None and request.active == support.ACTIVE
