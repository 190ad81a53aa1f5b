"""The flags that others script against, and presets that use them."""

import subprocess
import sys

import pytest
from absl import flags

from pipelines.settings import (
  config,
  data_flags,
  device_flags,
  privacy_flags,
  run_flags,
)
from tests.pipelines import support

# From the issue: these names may not change.
SCRIPTED = (
  "dataset", "data_dir", "model", "strategy", "target_density", "num_clients",
  "clients_per_round", "dirichlet_alpha", "rounds", "local_epochs", "batch_size",
  "client_optimizer", "client_learning_rate", "adjust_every_rounds",
  "adjust_until_round", "pool_size", "granularity", "seed", "output_dir", "targets",
)  # fmt: skip
PRESETS = sorted((support.ROOT / "pipelines" / "presets").glob("*.flags"))


def test_scripted_flags_exist():
  assert not set(SCRIPTED) - set(run_flags.names())


def test_every_flag_is_in_one_group_and_explained():
  names = run_flags.names()
  assert len(names) == len(set(names))
  by_module = flags.FLAGS.flags_by_module_dict()
  modules = (run_flags, data_flags, device_flags, privacy_flags)
  defined = [flag for module in modules for flag in by_module[module.__name__]]
  assert {flag.name for flag in defined} == set(names)
  assert all(flag.help and flag.help.endswith(".") for flag in defined)


def test_where_and_how_loudly_is_no_configuration():
  assert set(run_flags.NOT_CONFIGURATION) <= set(run_flags.names())


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid(path):
  with support.fresh_flags():
    flags.FLAGS(["x", f"--flagfile={path}", "--output_dir=unused"])
    config.from_flags()


def test_the_preset_of_the_main_job_is_the_issues():
  with support.fresh_flags():
    preset = support.ROOT / "pipelines" / "presets" / "digits.flags"
    flags.FLAGS(["x", f"--flagfile={preset}", "--output_dir=unused"])
    made = config.from_flags()
  assert made.dataset == "digits"
  assert made.target_density == 0.1
  assert made.pool_size == 8
  assert made.num_clients == 10
  assert made.dirichlet_alpha == 0.5
  assert made.dense_baseline
  assert made.targets == ["android", "mcu"]


def test_flags_after_the_flagfile_win():
  with support.fresh_flags():
    flags.FLAGS(["x", f"--flagfile={PRESETS[0]}", "--rounds=3"])
    assert flags.FLAGS.rounds == 3


def test_defining_flags_is_light():
  program = "import sys; import pipelines.settings.run_flags; print(*sys.modules)"
  loaded = subprocess.run(
    [sys.executable, "-c", program],
    cwd=support.ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout.split()
  assert not {"tensorflow", "numpy"} & set(loaded)
