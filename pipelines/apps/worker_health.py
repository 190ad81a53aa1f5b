"""What a watchdog may ask a worker over HTTP: does it live, can it work?"""

import http.server
from collections.abc import Callable, Mapping

from pipelines.apps import listening

# Path to a check, which returns what is wrong, or nothing.
Checks = Mapping[str, Callable[[], str]]

_READ_SECONDS = 5.0


class HealthServer(listening.HttpServer):
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
    super().__init__(host, port, _handler(checks))


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
