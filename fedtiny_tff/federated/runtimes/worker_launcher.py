"""Starts TFF's worker so that it ends with its parent, and only we can reach it.

A program of its own, run by path and in a fresh interpreter: a process must have one
thread only to enter a new user namespace. It needs the standard library alone.

TFF's worker has no authentication, listens on all interfaces, and has no flag for the
address. So it is put into a network namespace of its own, where nothing but this
program is beside it, and this program passes on what arrives at one socket outside:

    driver -> socket -> this program | namespace: -> port -> worker

Says in one line on standard output what happened: `worker PID`, `refused REASON` when
the kernel admits no namespace, or `unusable REASON` when the socket cannot be had.

Source: https://man7.org/linux/man-pages/man7/user_namespaces.7.html and
https://man7.org/linux/man-pages/man7/netdevice.7.html.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
from typing import NoReturn

# Where the worker listens inside its namespace, which has all ports free.
INNER_PORT = 8000

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_GET_INTERFACE_FLAGS = 0x8913
_SET_INTERFACE_FLAGS = 0x8914
_INTERFACE_UP = 0x1
_BUFFER_BYTES = 1 << 18
_WAITING_CONNECTIONS = 16

_LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with(parent: int) -> None:
  """Has the kernel kill this process with its parent; leaves if that is gone."""
  _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != parent:
    os._exit(1)


def _unshare(flags: int) -> None:
  if _LIBC.unshare(flags):
    error = ctypes.get_errno()
    raise OSError(error, os.strerror(error))


def enter_namespace() -> None:
  """Moves this process into a network namespace with nothing but a loopback.

  Raises:
    OSError: When the kernel does not admit it.
  """
  try:
    # Root needs no user namespace, in which it could not read other users' files.
    _unshare(_CLONE_NEWNET)
  except OSError:
    # Users are not mapped: the worker sees its own as "nobody", but files are opened
    # with the rights that it had.
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    request = struct.pack("16sh", b"lo", 0).ljust(40, b"\0")
    found = fcntl.ioctl(control, _GET_INTERFACE_FLAGS, request)
    (flags,) = struct.unpack_from("h", found, 16)
    request = struct.pack("16sh", b"lo", flags | _INTERFACE_UP).ljust(40, b"\0")
    fcntl.ioctl(control, _SET_INTERFACE_FLAGS, request)


def listen(address: str) -> socket.socket:
  """Listens at `unix:PATH` or `tcp:HOST:PORT`, where nobody else does.

  Raises:
    OSError: When that cannot be had.
  """
  kind, _, place = address.partition(":")
  if kind == "unix":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
  else:
    host, _, port = place.rpartition(":")
    found = socket.getaddrinfo(
      host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    listener = socket.socket(found[0][0], socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(found[0][4])
  listener.listen(_WAITING_CONNECTIONS)
  return listener


def _pump(source: socket.socket, sink: socket.socket) -> None:
  """Passes on what arrives, then that nothing more will."""
  buffer = memoryview(bytearray(_BUFFER_BYTES))
  with contextlib.suppress(OSError):
    while count := source.recv_into(buffer):
      sink.sendall(buffer[:count])
  with contextlib.suppress(OSError):
    sink.shutdown(socket.SHUT_WR)


def _serve(outside: socket.socket) -> None:
  """Connects one visitor with the worker until both have hung up."""
  with outside:
    try:
      inside = socket.create_connection(("127.0.0.1", INNER_PORT))
    except OSError:
      # The worker does not listen yet; gRPC tries again.
      return
    with inside:
      for end in (outside, inside):
        if end.family != socket.AF_UNIX:
          end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
      back = threading.Thread(target=_pump, args=(inside, outside), daemon=True)
      back.start()
      _pump(outside, inside)
      back.join()


def _relay(listener: socket.socket) -> None:
  while True:
    visitor, _ = listener.accept()
    threading.Thread(target=_serve, args=(visitor,), daemon=True).start()


def _say(line: str) -> None:
  sys.stdout.write(f"{line}\n")
  sys.stdout.flush()


def _quiet() -> None:
  """Lets go of the pipe to the parent, which would wait for its end."""
  nowhere = os.open(os.devnull, os.O_RDWR)
  os.dup2(nowhere, sys.stdout.fileno())
  os.close(nowhere)


def _run(command: list[str]) -> NoReturn:
  try:
    os.execv(command[0], command)
  except OSError:
    os._exit(1)


def _run_isolated(command: list[str], address: str, parent: int) -> int:
  """Runs the worker in a namespace, with a relay to it; returns its exit code."""
  try:
    listener = listen(address)
  except OSError as error:
    _say(f"unusable {error.strerror}")
    return 1
  try:
    enter_namespace()
  except OSError as error:
    _say(f"refused {error.strerror}")
    return 1
  # The kernel forgets it when a process's rights change.
  _die_with(parent)
  myself = os.getpid()
  worker = os.fork()
  if not worker:
    _quiet()
    _die_with(myself)
    _run(command)
  signal.signal(signal.SIGTERM, lambda *_: os.kill(worker, signal.SIGTERM))
  _say(f"worker {worker}")
  _quiet()
  threading.Thread(target=_relay, args=(listener,), daemon=True).start()
  _, status = os.waitpid(worker, 0)
  code = os.waitstatus_to_exitcode(status)
  # As a shell does: a signal's number is no exit code.
  return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
  """Runs a worker.

  Args:
    arguments: Process id of the parent; where to listen for the worker, or `open` to
      leave that to the worker itself; the worker's command.
  """
  parent, address, command = int(arguments[0]), arguments[1], arguments[2:]
  _die_with(parent)
  if address != "open":
    return _run_isolated(command, address, parent)
  _say(f"worker {os.getpid()}")
  _quiet()
  _run(command)


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
