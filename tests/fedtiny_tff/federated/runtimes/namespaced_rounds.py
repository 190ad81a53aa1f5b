"""A round over three workers in network namespaces; one is killed, one cut off.

A program of its own, for a fresh namespace whose root it is: each worker has a
namespace of its own, and a cable between it and us.

Prints a line of JSON: what was answered when, and whether results were the same.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator

from fedtiny_tff.federated.runtimes import remote_runtime, runtime
from tests.fedtiny_tff.federated import support
from tests.fedtiny_tff.federated.runtimes import slow_rounds, workers

COUNT = 3
PORT = 8000


def call(*command: str) -> None:
  subprocess.run(command, check=True)


class Machine:
  """A namespace with a worker, at the other end of a cable."""

  def __init__(self, number: int):
    self.cable = f"cable{number}"
    network = f"10.77.{number}"
    self.address = f"{network}.2:{PORT}"
    # Waits, in its namespace, until the cable is there.
    self._keeper = subprocess.Popen(
      ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    )
    assert self._keeper.stdout is not None
    self._keeper.stdout.readline()
    inside = ["nsenter", f"--target={self._keeper.pid}", "--net"]
    call("ip", "link", "add", self.cable, "type", "veth",
         "peer", "name", "eth0", "netns", str(self._keeper.pid))  # fmt: skip
    call("ip", "address", "add", f"{network}.1/24", "dev", self.cable)
    call("ip", "link", "set", self.cable, "up")
    call(*inside, "ip", "address", "add", f"{network}.2/24", "dev", "eth0")
    for device in ("lo", "eth0"):
      call(*inside, "ip", "link", "set", device, "up")
    self._inside = inside
    self.start()

  def start(self) -> None:
    self._app = subprocess.Popen(
      [*self._inside, sys.executable, "-m", "pipelines.worker", f"--port={PORT}",
       "--address=0.0.0.0", "--max_concurrent_clients=1"],
      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert self._app.stdout is not None
    assert "is ready" in self._app.stdout.readline()

  def kill(self) -> None:
    self._app.kill()
    self._app.wait()

  def cut_off(self) -> None:
    call("ip", "link", "set", self.cable, "down")

  def connect(self) -> None:
    call("ip", "link", "set", self.cable, "up")

  def stop(self) -> None:
    self._app.terminate()
    self._app.wait()
    self._keeper.terminate()
    self._keeper.wait()


@contextlib.contextmanager
def machines() -> Iterator[list[Machine]]:
  made: list[Machine] = []
  try:
    for number in range(COUNT):
      made.append(Machine(number))
    yield made
  finally:
    for machine in made:
      machine.stop()


def main() -> None:
  call("ip", "link", "set", "lo", "up")
  found: dict[str, object] = {}
  with tempfile.TemporaryDirectory() as folder, machines() as made:
    rounds = slow_rounds.build(pathlib.Path(folder))
    with runtime.LocalRuntime():
      expected = [support.to_bytes(call()) for call in rounds.calls["mean"]]
    addresses = [machine.address for machine in made]
    with remote_runtime.RemoteRuntime(addresses, answer_seconds=2.0) as spread:
      rounds.calls["mean"][1]()
      threading.Timer(slow_rounds.CLIENT_SECONDS / 2, made[0].kill).start()
      threading.Timer(slow_rounds.CLIENT_SECONDS / 2, made[1].cut_off).start()
      disturbed = support.to_bytes(rounds.calls["mean"][1]())
      found["same"] = disturbed == expected[1]
      found["answering"] = [addresses.index(each) for each in spread.answering]
      made[0].start()
      made[1].connect()
      workers.until(lambda: len(spread.answering) == COUNT)
      found["back"] = [addresses.index(each) for each in spread.answering]
      found["same_later"] = [
        support.to_bytes(call()) == wanted
        for call, wanted in zip(rounds.calls["mean"], expected, strict=True)
      ]
  print(json.dumps(found), flush=True)


if __name__ == "__main__":
  # Nothing is left of the namespaces when the last process in them has ended.
  assert os.geteuid() == 0
  main()
