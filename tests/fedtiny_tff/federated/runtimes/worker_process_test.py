"""Tests of the worker process: who reaches it, and that it outlives nobody."""

import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import tempfile

import psutil
import pytest

from fedtiny_tff.federated.runtimes import (
  worker_channel,
  worker_launcher,
  worker_process,
)
from tests.fedtiny_tff.federated.runtimes import workers

REPOSITORY = pathlib.Path(__file__).parents[4]
ANY_ADDRESS = "0" * 32
LISTENING = "0A"


@pytest.fixture(name="isolation", scope="module")
def fixture_isolation():
  workers.require_isolation()


def namespace(pid) -> str:
  return os.readlink(f"/proc/{pid}/ns/net")


def listeners(pid: int, protocol: str = "tcp6") -> list[list[str]]:
  """Lists what is listened at in a process's namespace: rows of /proc/net/tcp6."""
  table = pathlib.Path(f"/proc/{pid}/net/{protocol}").read_text(encoding="ascii")
  rows = [row.split() for row in table.splitlines()[1:]]
  return [row for row in rows if row[3] == LISTENING]


def listening_ports(pid: int) -> dict[int, str]:
  """Maps ports that are listened at in a process's namespace to the IPv6 address."""
  locals_ = [row[1].partition(":") for row in listeners(pid)]
  return {int(port, 16): address for address, _, port in locals_}


def listens_here(pid: int) -> bool:
  """Whether a process listens at a port of our namespace."""
  ours = {row[9] for kind in ("tcp", "tcp6") for row in listeners(os.getpid(), kind)}
  opened = [os.readlink(each) for each in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
  return any(f"socket:[{inode}]" in opened for inode in ours)


def connects(host: str, port: int) -> bool:
  try:
    socket.create_connection((host, port), 1.0).close()
  except OSError:
    return False
  return True


def answers(target: str) -> bool:
  with worker_channel.open_channel(target) as channel:
    return worker_channel.answers(channel, 5.0)


class TestReach:
  @pytest.mark.usefixtures("isolation")
  def test_nobody_outside_reaches_an_isolated_worker(self):
    with worker_process.WorkerProcess(1) as worker:
      assert namespace(worker.pid) != namespace(os.getpid())
      # All that listens there is the worker, on all interfaces of its own namespace.
      inside = listening_ports(worker.pid)
      assert inside == {worker_launcher.INNER_PORT: ANY_ADDRESS}
      assert not listens_here(worker.pid)
      assert not listens_here(psutil.Process(worker.pid).ppid())
      assert answers(worker.target)

  @pytest.mark.usefixtures("isolation")
  def test_only_this_user_can_open_its_socket(self):
    with worker_process.WorkerProcess(1) as worker:
      path = pathlib.Path(worker.target.removeprefix("unix:"))
      folder = path.parent
      assert path.is_socket()
      assert stat.S_IMODE(folder.stat().st_mode) == 0o700
      assert folder.stat().st_uid == os.getuid()
    assert not folder.exists()

  def test_an_open_worker_can_be_reached_by_anyone(self):
    with worker_process.WorkerProcess(1, is_isolated=False) as worker:
      port = int(worker.target.rpartition(":")[2])
      assert namespace(worker.pid) == namespace(os.getpid())
      assert listening_ports(os.getpid())[port] == ANY_ADDRESS
      assert listens_here(worker.pid)
      assert connects("127.0.0.1", port)
      assert connects("127.0.0.2", port)
      assert answers(f"127.0.0.2:{port}")
      assert port in worker_process.OPEN_PORTS

  @pytest.mark.usefixtures("isolation")
  def test_an_address_is_all_that_is_listened_at(self):
    (port,) = workers.free_ports(1)
    with worker_process.WorkerProcess(1, f"127.0.0.1:{port}") as worker:
      assert worker.target == f"127.0.0.1:{port}"
      assert answers(worker.target)
      assert not connects("127.0.0.2", port)
      assert not connects("::1", port)

  @pytest.mark.usefixtures("isolation")
  @pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
  def test_a_wildcard_is_all_addresses(self, host):
    (port,) = workers.free_ports(1)
    with worker_process.WorkerProcess(1, f"{host}:{port}") as worker:
      assert answers(worker.target)
      assert connects("127.0.0.2", port)

  def test_a_user_without_rights_has_a_namespace_as_well(self):
    program = (
      "import os\n"
      "from fedtiny_tff.federated.runtimes import worker_channel as c, worker_process as w\n"
      "with w.WorkerProcess(1) as worker, c.open_channel(worker.target) as channel:\n"
      "  spaces = [os.readlink(f'/proc/{p}/ns/net') for p in (os.getpid(), worker.pid)]\n"
      "  print(os.getuid(), len(set(spaces)), c.answers(channel, 5.0))"
    )
    result = subprocess.run(
      ["unshare", "--user", "--map-user=1000", "--map-group=1000", sys.executable, "-c", program],
      cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    refused = [
      line for line in result.stderr.splitlines() if "IsolationRefused" in line
    ]
    if "unshare:" in result.stderr or refused:
      pytest.skip(f"user namespaces are not permitted here: {refused or result.stderr}")
    assert result.stdout == "1000 2 True\n", result.stderr

  def test_long_temporary_folders_are_avoided(self, monkeypatch, tmp_path):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    found = worker_process._private_folder()
    try:
      assert found.parent == pathlib.Path("/tmp")
      assert not any(folder.iterdir())
    finally:
      found.rmdir()


class TestRefusal:
  def test_says_why_the_kernel_refuses(self):
    program = (
      "from fedtiny_tff.federated.runtimes import worker_process as w\n"
      "try:\n  w.WorkerProcess(1).__enter__()\n"
      "except w.IsolationRefused as refused:\n  print('refused:', refused)\n"
      "with w.WorkerProcess(1, is_isolated=False) as worker:\n  print(worker.pid > 0)"
    )
    forbid = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"'
    result = subprocess.run(
      ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh",
       sys.executable, "-c", program],
      cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare" in result.stderr or "max_net_namespaces" in result.stderr:
      pytest.skip(f"user namespaces cannot be limited here: {result.stderr}")
    assert result.stdout.splitlines() == ["refused: No space left on device", "True"]

  @pytest.mark.parametrize("is_isolated", [True, False])
  def test_a_port_that_is_taken(self, is_isolated):
    with socket.socket() as taken:
      # As TFF's worker does, which would share it.
      taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
      taken.bind(("0.0.0.0", 0))
      taken.listen()
      address = f"0.0.0.0:{taken.getsockname()[1]}"
      with pytest.raises(
        worker_process.AddressUnusable, match="Address already in use"
      ):
        worker_process.WorkerProcess(1, address, is_isolated=is_isolated).__enter__()

  def test_an_address_of_another_machine(self):
    with pytest.raises(worker_process.AddressUnusable, match="Cannot assign"):
      worker_process.WorkerProcess(1, "192.0.2.1:8000").__enter__()

  def test_free_ports_are_not_taken_ones(self):
    first = worker_process.free_port()
    with socket.socket() as taken:
      taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      taken.bind(("0.0.0.0", first))
      taken.listen()
      assert worker_process.free_port() != first


HOLDER = """
import sys, time
from fedtiny_tff.federated.runtimes import worker_process
with worker_process.WorkerProcess(1, is_isolated=sys.argv[1] == "True") as worker:
  print(worker.pid, flush=True)
  time.sleep(600)
"""


class TestEnd:
  @pytest.mark.parametrize("is_isolated", [True, False])
  def test_ends_when_its_parent_is_killed(self, is_isolated, isolation):
    with subprocess.Popen(
      [sys.executable, "-c", HOLDER, str(is_isolated)],
      stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    ) as holder:  # fmt: skip
      assert holder.stdout is not None
      try:
        pid = int(holder.stdout.readline())
        family = [pid] + [each.pid for each in psutil.Process(holder.pid).children()]
        assert workers.is_running(pid)
      finally:
        holder.kill()
    assert workers.until(lambda: not any(map(workers.is_running, family)))

  @pytest.mark.usefixtures("isolation")
  def test_ends_when_its_launcher_is_killed(self):
    with worker_process.WorkerProcess(1) as worker:
      pid = worker.pid
      psutil.Process(psutil.Process(pid).ppid()).kill()
      assert worker.wait() == -signal.SIGKILL
      assert workers.until(lambda: not workers.is_running(pid))

  @pytest.mark.parametrize("is_isolated", [True, False])
  def test_tells_how_it_ended(self, is_isolated, isolation):
    with worker_process.WorkerProcess(1, is_isolated=is_isolated) as worker:
      assert worker.poll() is None
      os.kill(worker.pid, signal.SIGKILL)
      assert worker.wait() in (128 + signal.SIGKILL, -signal.SIGKILL)
      assert worker.poll() == worker.wait()

  @pytest.mark.usefixtures("isolation")
  def test_no_process_is_left(self):
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    with worker_process.WorkerProcess(1) as worker:
      assert len(psutil.Process().children(recursive=True)) == len(before) + 2
      worker.stop()
      assert worker.pid == 0
      assert worker.target == ""
      assert {each.pid for each in psutil.Process().children(recursive=True)} == before
