"""Every flag is checked, and a configuration repeats itself as a flagfile."""

import dataclasses

import pytest
from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.settings import config, run_flags
from tests.pipelines import support


def test_flags_are_attributes():
  made = support.make_config(rounds=7)
  assert made.rounds == 7
  assert made.target_density == 0.1
  with pytest.raises(AttributeError):
    _ = made.no_such_flag
  with pytest.raises(dataclasses.FrozenInstanceError):
    setattr(made, "values", {})  # noqa: B010 - mypy knows that it is frozen


@pytest.mark.parametrize(
  "name",
  # The bits are checked where sums are made of them.
  [
    name
    for name in run_flags.names()
    if flags.FLAGS[name].flag_type() == "int" and name != "secure_bits"
  ],
)
def test_whole_numbers_fit_what_computes_with_them(name):
  with pytest.raises(InputError, match=f"--{name} must be"):
    support.make_config(**{name: 2**63})


@pytest.mark.parametrize(
  "text", ["\udca9 ACME", "MIT\nsee LICENSE", "MIT\n", "a\rb", "a\u2028b", "a\x1cb"]
)
@pytest.mark.parametrize("name", ["model_licence", "output_dir", "anomaly_classes"])
def test_texts_are_those_that_a_flagfile_gives_back(name, text):
  value = ["a", text] if name == "anomaly_classes" else text
  with pytest.raises(InputError, match=f"--{name}=.*: must be UTF-8 text without line"):
    support.make_config(**{name: value})


def test_the_defaults_are_valid():
  values = {name: flags.FLAGS[name].default for name in run_flags.names()}
  config.make_config(values | {"targets": ["android"], "output_dir": "x"})


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"target_density": 0.0}, r"--target_density must be in \(0, 1\], got 0$"),
    ({"target_density": 1.4}, r"got 1\.4$"),
    ({"target_density": -0.1}, r"got -0\.1$"),
    ({"target_density": float("nan")}, r"--target_density must be a finite .* nan"),
    ({"client_learning_rate": float("inf")}, "--client_learning_rate .* inf"),
    ({"client_learning_rate": -1.0}, "learning"),
    ({"client_momentum": 1.0}, "momentum"),
    ({"client_weight_decay": -0.1}, "decay"),
    ({"client_clip_norm": -1.0}, "clip norm must be at least 0, got -1.0"),
    ({"learning_rate_schedule": "linear"}, "constant, cosine, step, got 'linear'"),
    ({"compute_dtype": "float16"}, "--compute_dtype .* float32, bfloat16, auto"),
    ({"augmentations": ["blur"]}, "augmentations must be of crop, flip, cutout"),
    (
      {"target_density": 1e-9, "pool_size": 0},
      "means 100,000,000 candidates; set --pool_size",
    ),
    ({"pool_size": 1001}, "--pool_size must be at most 1000, got 1001"),
    ({"rounds": 10**30}, "--rounds must be at most"),
    ({"dirichlet_alpha": 1e-300}, "--dirichlet_alpha must be at least 0.001"),
    ({"dirichlet_alpha": 0.0}, "--dirichlet_alpha must be positive, got 0"),
    ({"width": 0.0}, "--width must be positive, got 0$"),
    ({"width": -0.5}, r"--width must be positive, got -0\.5$"),
    ({"width": float("nan")}, "--width must be a finite number"),
    ({"clients_per_round": 5}, "--clients_per_round is 5, .* --num_clients=4"),
    ({"clients_per_round": -1}, "--clients_per_round must be at least 0, got -1"),
    ({"num_clients": -1}, "--num_clients must be at least 0, got -1"),
    ({"rounds": 0}, "--rounds must be at least 1, got 0"),
    ({"local_epochs": 0}, "--local_epochs"),
    ({"batch_size": 0}, "--batch_size"),
    ({"pretrain_epochs": -1}, "--pretrain_epochs"),
    ({"public_samples_per_class": -1}, "--public_samples_per_class"),
    ({"calibration_samples": -1}, "--calibration_samples must be at least 0, got -1"),
    ({"calibration_samples": 10**10}, "--calibration_samples must be at most"),
    (
      {"calibration_source": "test"},
      "--calibration_source .* public, clients, got 'test'",
    ),
    ({"calibration_ranges": "mean"}, "--calibration_ranges .* minmax, percentile, got"),
    (
      {"calibration_percentile": 50.0},
      r"--calibration_percentile .* \(50, 100\], got 50",
    ),
    ({"calibration_percentile": 100.1}, r"--calibration_percentile .* got 100\.1"),
    (
      {"calibration_percentile": float("nan")},
      "--calibration_percentile must be a finite",
    ),
    ({"adjust_every_rounds": 0}, "--adjust_every_rounds"),
    ({"adjust_until_round": -1}, "--adjust_until_round"),
    ({"pool_size": -1}, "--pool_size"),
    ({"eval_every_rounds": 0}, "--eval_every_rounds"),
    ({"seed": -1}, "--seed"),
    ({"seed": 2**63}, "--seed must be at most"),
    ({"dataset": "mnist"}, "--dataset must be one of digits, .*, got 'mnist'"),
    ({"model": "vgg"}, "--model must be one of .* got 'vgg'"),
    ({"strategy": "x"}, "--strategy must be one of .* got 'x'"),
    ({"partitioner": "x"}, "--partitioner"),
    ({"layer_densities": "x"}, "--layer_densities"),
    ({"selection": "x"}, "--selection"),
    ({"prune_for": "arm"}, "--prune_for must be one of any, xnnpack, got 'arm'"),
    ({"channel_block": 3}, "--channel_block must be one of 1, 2, 4, got 3"),
    ({"channel_block": 0}, "--channel_block must be one of 1, 2, 4, got 0"),
    ({"granularity": "x"}, "--granularity"),
    ({"client_optimizer": "x"}, "--client_optimizer"),
    ({"adjust_order": "x"}, "adjust_order must be .*backward.* forward, got 'x'"),
    (
      {"targets": ["android", "ios"]},
      "--targets must name one or more of android, mcu, device_client, got 'ios'",
    ),
    ({"targets": ["mcu", "mcu"]}, "--targets names 'mcu' more than once"),
    ({"workers": ["a:1", "b"]}, "--workers: 'b' is no address of a worker"),
    ({"workers": ["a:1", "a:1"]}, "--workers: worker a:1 is named twice"),
  ],
)
def test_bad_values_are_named(changes, said):
  with pytest.raises(InputError, match=said):
    support.make_config(**changes)


@pytest.mark.parametrize(
  "changes",
  [
    {"target_density": 1.0},
    {"target_density": 1e-3},
    {"clients_per_round": 4},
    {"pool_size": 0},
    {"pretrain_epochs": 0},
    {"adjust_until_round": 0},
    {"targets": ["mcu"]},
    {"client_optimizer": "adam"},
    {"adjust_order": "forward"},
  ],
)
def test_values_at_the_edge_are_accepted(changes):
  made = support.make_config(**changes)
  assert {name: made.values[name] for name in changes} == changes


def test_what_clients_do_follows_the_flags():
  made = support.make_config(client_learning_rate=0.25, local_epochs=3, batch_size=8)
  assert made.training.local_epochs == 3
  assert made.training.batch_size == 8
  assert made.training.optimizer.learning_rate == 0.25


def test_what_strategies_read_follows_the_flags():
  made = support.make_config(
    layer_densities="erk", granularity="layer", adjust_order="forward", seed=9
  )
  pruning = made.pruning
  assert (pruning.layer_densities, pruning.granularity) == ("erk", "layer")
  assert (pruning.adjust_order, pruning.seed) == ("forward", 9)
  assert (pruning.pool_size, pruning.rounds) == (3, 4)


def test_the_configuration_is_everything_but_the_place():
  made = support.make_config(output_dir="/somewhere")
  assert set(made.configuration()) == set(run_flags.names()) - {
    *run_flags.NOT_CONFIGURATION
  }


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"dense_baseline": False, "targets": ["mcu"]},
    {"feature_columns": ["x, m/s", 'the "y"', "z"], "anomaly_classes": ["a,b"]},
    {"data_dir": "/data with a space/#1=x"},
    {"client_weight_decay": 1e-05, "target_density": 0.1 + 0.2, "seed": 2**62},
  ],
)
def test_a_flagfile_repeats_its_configuration(tmp_path, changes):
  made = support.make_config(**changes)
  path = tmp_path / "run.flags"
  path.write_text(config.flagfile_text(made))
  with support.fresh_flags():
    flags.FLAGS(["x", f"--flagfile={path}", "--output_dir=unused"])
    again = config.from_flags()
  assert again.configuration() == made.configuration()
  assert config.flagfile_text(again) == config.flagfile_text(made)


def test_a_flagfile_has_a_line_a_flag():
  text = config.flagfile_text(support.make_config(dense_baseline=False))
  lines = text.splitlines()
  assert "--nodense_baseline" in lines
  assert "--targets=android,mcu" in lines
  assert "output_dir" not in text
  # Flags without a value have no line.
  without_value = {
    "data_dir", "partitioner", "partition_file", "image_size", *run_flags.NOT_CONFIGURATION,
  }  # fmt: skip
  assert len(lines) == len(run_flags.names()) - len(without_value)


@pytest.mark.parametrize("arguments", [[], ["--output_dir="]])
def test_the_output_directory_must_be_named(arguments):
  with support.fresh_flags():
    flags.FLAGS(["x", *arguments])
    with pytest.raises(InputError, match="--output_dir is missing"):
      config.from_flags()


@pytest.mark.parametrize("native", [False, True])
def test_auto_compute_dtype_is_settled_when_the_run_is_configured(monkeypatch, native):
  monkeypatch.setattr(config.compute_dtypes, "cpu_has_bfloat16", lambda: native)
  made = support.make_config(compute_dtype="auto")
  wanted = "bfloat16" if native else "float32"
  assert made.training.compute_dtype == wanted
  assert f"--compute_dtype={wanted}\n" in config.flagfile_text(made)
