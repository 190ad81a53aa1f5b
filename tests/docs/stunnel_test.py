"""The documented TLS proxies: with a certificate a round runs, without one nothing."""

import contextlib
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from fedtiny_tff.federated.runtimes import remote_runtime, worker_channel
from tests.fedtiny_tff.federated.runtimes import workers

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    shutil.which("stunnel") is None or shutil.which("openssl") is None,
    reason="stunnel and openssl are needed (Debian and Ubuntu: apt-get install stunnel4)",
  ),
]

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs" / "several_machines"
# What the documented files are adapted to.
WORKER = "localhost"


def certificates(folder: pathlib.Path) -> pathlib.Path:
  subprocess.run(
    ["sh", str(FOLDER / "certificates.sh"), str(folder), "driver", WORKER],
    check=True,
    capture_output=True,
  )
  return folder


@pytest.fixture(name="ours", scope="module")
def fixture_ours(tmp_path_factory):
  return certificates(tmp_path_factory.mktemp("ours"))


@pytest.fixture(name="theirs", scope="module")
def fixture_theirs(tmp_path_factory):
  return certificates(tmp_path_factory.mktemp("theirs"))


@contextlib.contextmanager
def stunnel(path: pathlib.Path, text: str, port: int) -> Iterator[None]:
  path.write_text(text)
  process = subprocess.Popen(
    ["stunnel", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
  )
  try:
    assert process.stderr is not None
    ready = "Configuration successful"
    assert any(ready in line for line in iter(process.stderr.readline, "")), port
    yield
  finally:
    process.terminate()
    process.communicate()


def worker_text(folder: pathlib.Path, port: int, worker: str) -> str:
  text = (FOLDER / "worker.stunnel.conf").read_text()
  text = text.replace("accept = 8443", f"accept = 127.0.0.1:{port}")
  text = text.replace("connect = 127.0.0.1:8000", f"connect = {worker}")
  text = text.replace("worker-1.example.org", WORKER)
  return text.replace("/etc/fedtiny-tff", str(folder))


def driver_text(folder: pathlib.Path, own: int, port: int) -> str:
  text = (FOLDER / "driver.stunnel.conf").read_text().partition("[worker-2]")[0]
  text = text.replace("127.0.0.1:9001", f"127.0.0.1:{own}")
  text = text.replace("worker-1.example.org", WORKER)
  text = text.replace(f"{WORKER}:8443", f"127.0.0.1:{port}")
  return text.replace("/etc/fedtiny-tff", str(folder))


@pytest.fixture(name="port", scope="module")
def fixture_port(ours, tmp_path_factory):
  """The port of a worker behind its proxy."""
  (port,) = workers.free_ports(1)
  path = tmp_path_factory.mktemp("proxy") / "worker.conf"
  with (
    workers.running_workers(1) as running,
    stunnel(path, worker_text(ours, port, running.addresses[0]), port),
  ):
    yield port


@contextlib.contextmanager
def driver(
  path: pathlib.Path, folder: pathlib.Path, port: int, change=lambda text: text
):
  """Yields the address of a driver's own proxy."""
  (own,) = workers.free_ports(1)
  text = change(driver_text(folder, own, port))
  with stunnel(path / "driver.conf", text, own):
    yield f"127.0.0.1:{own}"


def answers(address: str) -> bool:
  with worker_channel.open_channel(address) as channel:
    return worker_channel.answers(channel, 3.0)


def test_with_a_certificate_a_round_runs(tmp_path, ours, port):
  with driver(tmp_path, ours, port) as address:
    assert answers(address)
    with remote_runtime.RemoteRuntime([address], return_seconds=10.0):
      assert workers.doubled_sum([1, 2, 3]) == 12


def test_without_tls_nobody_gets_in(port):
  assert not answers(f"127.0.0.1:{port}")


def test_without_a_certificate_nobody_gets_in(tmp_path, ours, port):
  def without(text):
    found = re.sub(r"^(cert|key) = .*\n", "", text, flags=re.MULTILINE)
    assert found.count("\n") == text.count("\n") - 2
    return found

  with driver(tmp_path, ours, port, without) as address:
    assert not answers(address)


def test_with_another_authoritys_certificate_nobody_gets_in(
  tmp_path, ours, theirs, port
):
  # It trusts the worker, but has a certificate that the worker does not trust.
  def foreign(text):
    return text.replace(f"{ours}/driver", f"{theirs}/driver")

  with driver(tmp_path, ours, port, foreign) as address:
    assert not answers(address)


def test_a_driver_speaks_with_no_false_worker(tmp_path, ours, theirs, port):
  with driver(
    tmp_path, ours, port, lambda text: text.replace(f"{ours}/ca", f"{theirs}/ca")
  ) as address:
    assert not answers(address)
  with driver(
    tmp_path,
    ours,
    port,
    lambda text: text.replace(f"checkHost = {WORKER}", "checkHost = x"),
  ) as address:
    assert not answers(address)


def test_private_keys_are_the_owners(ours):
  for path in ours.glob("*.key"):
    assert path.stat().st_mode & 0o077 == 0
