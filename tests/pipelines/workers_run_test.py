"""The whole pipeline over workers makes the same bytes as on one machine."""

import pytest

from fedtiny_tff.federated.runtimes import remote_runtime
from pipelines import train
from tests.fedtiny_tff.federated.runtimes import workers
from tests.pipelines import equal_runs, support

pytestmark = pytest.mark.slow

# All that clients compute in a run: selection, rounds, evaluations, ranges, int8.
CHANGES = {
  "quantisation_aware": "always", "quantisation_aware_rounds": 1,
  "calibration_source": "clients", "targets": "mcu", "dense_baseline": False,
}  # fmt: skip


@pytest.fixture(name="running", scope="module")
def fixture_running():
  with workers.running_workers(3) as running:
    yield running


def flagfile(folder):
  return support.write_flagfile(folder / "tiny.flags", support.TINY | CHANGES)


def test_a_run_over_workers_equals_a_local_one_and_goes_on_with_others(
  running, tmp_path
):
  arguments = [f"--flagfile={flagfile(tmp_path)}"]
  local, spread = tmp_path / "local", tmp_path / "spread"
  # In processes of their own: names in exported files count what was built before.
  local_app = support.App(tmp_path, "run", *arguments, f"--output_dir={local}")
  assert local_app.wait() == 0, local_app.stderr
  arguments.append(f"--output_dir={spread}")
  # Another worker than those that trained it does what is left, the export.
  two, third = running.addresses[:2], running.addresses[2:]
  for name, addresses in (("train", two), ("run", third)):
    app = support.App(tmp_path, name, *arguments, f"--workers={','.join(addresses)}")
    assert app.wait() == 0, app.stderr
    assert app.survivors() == []
  assert "workers" not in (spread / "run.flags").read_text()
  found, expected = equal_runs.results(spread), equal_runs.results(local)
  assert found.keys() == expected.keys()
  assert [name for name in expected if found[name] != expected[name]] == []


def test_a_worker_that_is_not_there_is_said_before_anything_is_written(
  running, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(remote_runtime, "RETURN_SECONDS", 0.2)
  (port,) = workers.free_ports(1)
  code = support.call(
    "train", train.main, f"--flagfile={flagfile(tmp_path)}",
    f"--output_dir={tmp_path / 'run'}",
    f"--workers={running.addresses[0]},127.0.0.1:{port}",
  )  # fmt: skip
  assert code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(f"train: no answer in 0.2 s from worker 127.0.0.1:{port}: ")
  assert not (tmp_path / "run").exists()
