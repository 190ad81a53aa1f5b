"""Serves the folder of a server and its devices over HTTP."""

import ipaddress
import pathlib
import threading
from typing import Optional

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.apps import app, listening
from pipelines.apps.errors import ExitCode
from pipelines.apps.plain_progress import PlainProgress
from pipelines.devices import exchange_flag, gateway_handler, gateway_rules

_SUMMARY = """
Lets devices on other machines reach a folder in which a run exchanges messages with them.

  python -m pipelines.device_gateway --exchange=/shared/digits --port=8080
  python -m pipelines.device_gateway --exchange=/shared/digits --port=8080 \\
    --address=0.0.0.0 --tokens_file=tokens.json

Devices can read the plan, the model, the task and the server's messages, and write the
answers that the task asks for, no longer than the plan has them; nothing else. It works
until Ctrl-C or SIGTERM, which end it with exit code 0. It does not encrypt: put a TLS
proxy before it. Without --tokens_file whoever reaches the port can answer for any client.
"""

_TOKENS = flags.DEFINE_string(
  "tokens_file",
  None,
  'JSON object of each client\'s number and its secret, {"0": "...", "1": "..."}; others '
  "are not let in. Default: everybody is.",
)
_SECONDS = flags.DEFINE_float(
  "request_seconds", 600.0, "Longest time that one message may take to travel."
)

_GROUPS = {
  "Gateway": ["exchange", "port", "address", "tokens_file", "request_seconds"],
}


def main() -> Optional[int]:
  """Serves until it is told to stop."""
  folder = _folder(exchange_flag.EXCHANGE.value)
  port = listening.checked_port("port", listening.PORT.value)
  address = listening.checked_address("address", listening.ADDRESS.value)
  if not 0 < _SECONDS.value < float("inf"):
    raise InputError(f"--request_seconds must be more than 0, got {_SECONDS.value}")
  tokens = gateway_rules.read_tokens(_TOKENS.value) if _TOKENS.value else None
  progress = PlainProgress()
  listen = listening.endpoint(address, port)
  handler = gateway_handler.handler(folder, tokens, progress)
  try:
    server = listening.HttpServer(address, port, handler, _limited(_SECONDS.value))
  except OSError as error:
    raise InputError(
      f"--port: cannot listen at {listen} ({error.strerror}); choose another"
    ) from error
  if not ipaddress.ip_address(address).is_loopback:
    progress.warn(_warning(listen, tokens is not None))
  with server:
    print(f"The gateway to {folder} is ready at http://{listen}", flush=True)
    try:
      threading.Event().wait()
    except KeyboardInterrupt:
      # SIGTERM as well. There is no other end that is not a failure.
      return ExitCode.DONE
  return None


def _folder(name: Optional[str]) -> pathlib.Path:
  if not name:
    raise InputError("--exchange is missing: name the folder that a run exchanges with")
  if not pathlib.Path(name).is_dir():
    raise InputError(
      f"--exchange={name}: is no folder yet; start the run that makes it (--device_exchange), then the gateway"
    )
  return pathlib.Path(name)


def _limited(seconds: float) -> type[gateway_handler.GatewayServer]:
  class Server(gateway_handler.GatewayServer):
    longest_seconds = seconds

  return Server


def _warning(listen: str, has_tokens: bool) -> str:
  if has_tokens:
    return (
      f"secrets and models travel unencrypted to {listen}; put a TLS proxy before it"
    )
  return (
    f"whoever reaches {listen} can read the model and answer for any client; give "
    "--tokens_file, and guard the port"
  )


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, _GROUPS, goes_on=False))
