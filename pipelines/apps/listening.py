"""Where an app listens, and a server of the standard library that does."""

import contextlib
import http.server
import ipaddress
import socket
import socketserver
import threading
from typing import Any, Optional

from absl import flags

from fedtiny_tff.errors import InputError

PORT = flags.DEFINE_integer("port", None, "Port to listen at, 1 to 65535; needed.")
ADDRESS = flags.DEFINE_string(
  "address", "127.0.0.1", "Address to listen on; 0.0.0.0 or :: for all interfaces."
)

# How soon it is noticed that the port is to be let go.
_POLL_SECONDS = 0.1


def checked_port(flag: str, value: Optional[int]) -> int:
  """Returns a flag's port.

  Raises:
    InputError: When it is missing, or none.
  """
  if value is None:
    raise InputError(f"--{flag} is missing: name a port of 1 to 65535")
  if not 0 < value < 2**16:
    raise InputError(f"--{flag} must be from 1 to 65535, got {value}")
  return value


def checked_address(flag: str, value: str) -> str:
  """Returns a flag's IP address.

  Raises:
    InputError: When it is none.
  """
  try:
    return str(ipaddress.ip_address(value))
  except ValueError as error:
    raise InputError(
      f"--{flag}={value}: is no IP address; give one such as 127.0.0.1 or ::1"
    ) from error


def endpoint(address: str, port: int) -> str:
  """Returns an IP address and a port as one text."""
  return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class ThreadingServer(socketserver.ThreadingTCPServer):
  """Answers every connection in a thread of its own, over IPv4 or IPv6."""

  allow_reuse_address = True
  daemon_threads = True

  def __init__(
    self, host: str, port: int, handler: type[http.server.BaseHTTPRequestHandler]
  ):
    """Takes the port.

    Args:
      host: Address of the interface to listen on.
      port: Port; 0 for any free one.
      handler: What answers.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    self.address_family = found[0][0]
    super().__init__((host, port), handler)


class HttpServer(contextlib.AbstractContextManager):
  """Answers in threads of its own, from entry to exit."""

  def __init__(
    self,
    host: str,
    port: int,
    handler: type[http.server.BaseHTTPRequestHandler],
    kind: type[ThreadingServer] = ThreadingServer,
  ):
    """Takes the port; answers from entry on.

    Args:
      host: Address of the interface to listen on.
      port: Port; 0 for any free one.
      handler: What answers.
      kind: How connections are kept.

    Raises:
      OSError: When the port cannot be had.
    """
    self._server = kind(host, port, handler)
    self._thread = threading.Thread(
      target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True
    )

  @property
  def port(self) -> int:
    """The port it listens at."""
    return int(self._server.server_address[1])

  def __enter__(self) -> Any:
    """Begins to answer."""
    self._thread.start()
    return self

  def __exit__(self, *exception: object) -> None:
    """Lets the port go."""
    self._server.shutdown()
    self._server.server_close()
