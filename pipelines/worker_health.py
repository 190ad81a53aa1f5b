"""What a watchdog may ask a worker over HTTP: does it live, can it work?"""

import contextlib
import http.server
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping

# Path to a check, which returns what is wrong, or nothing.
Checks = Mapping[str, Callable[[], str]]

_READ_SECONDS = 5.0
# How soon it is noticed that the port is to be let go.
_POLL_SECONDS = 0.1


class HealthServer(contextlib.AbstractContextManager):
  """Answers 200 or 503 and one line, in threads of its own."""

  def __init__(self, host: str, port: int, checks: Checks):
    """Takes the port; answers from entry on.

    Args:
      host: Address of the interface to listen on.
      port: Port; 0 for any free one.
      checks: Path, such as `/healthz`, to what is checked when it is asked for.

    Raises:
      OSError: When the port cannot be had.
    """
    self._server = _Server(host, port, _handler(checks))
    self._thread = threading.Thread(
      target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True
    )

  @property
  def port(self) -> int:
    """The port it listens at."""
    return int(self._server.server_address[1])

  def __enter__(self) -> "HealthServer":
    """Begins to answer."""
    self._thread.start()
    return self

  def __exit__(self, *exception: object) -> None:
    """Lets the port go."""
    self._server.shutdown()
    self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
  allow_reuse_address = True
  daemon_threads = True

  def __init__(
    self, host: str, port: int, handler: type[http.server.BaseHTTPRequestHandler]
  ):
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    self.address_family = found[0][0]
    super().__init__((host, port), handler)


def _handler(checks: Checks) -> type[http.server.BaseHTTPRequestHandler]:
  class Handler(http.server.BaseHTTPRequestHandler):
    timeout = _READ_SECONDS

    def do_GET(self) -> None:
      check = checks.get(self.path)
      if check is None:
        self._answer(404, f"ask for {' or '.join(checks)}")
        return
      problem = check()
      self._answer(503 if problem else 200, problem or "ok")

    def _answer(self, status: int, text: str) -> None:
      body = f"{text}\n".encode()
      self.send_response(status)
      self.send_header("Content-Type", "text/plain; charset=utf-8")
      self.send_header("Content-Length", str(len(body)))
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
      """Keeps probes, one every few seconds, out of the output."""

  return Handler
