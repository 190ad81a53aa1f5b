"""Runs a device of a federation: trains in LiteRT what the server asks for.

Only NumPy, LiteRT, absl and safetensors are needed.
"""

import pathlib
import resource
from typing import Optional

from absl import flags

from fedtiny_tff.errors import InputError
from pipelines.apps import app, folder_lock
from pipelines.devices import device_exchange, exchange_flag

_SUMMARY = """
A device of a federation: waits for the server's tasks, computes them in LiteRT with its
own examples, and answers. Needs neither TensorFlow nor TFF.

  python -m pipelines.device_client --exchange=/shared/digits --client=3 \\
    --data=devices/client_000003.safetensors
  python -m pipelines.device_client --exchange=https://gateway.example --client=3 \\
    --data=client_000003.safetensors --token_file=token.txt

It ends with exit code 0 when the server says that all is finished. Killed at any moment
and started again, it does what has no answer yet. What arrives altered, cut short, or
for another round or plan is refused in one line, and looked for again.
"""

_CLIENT = flags.DEFINE_integer("client", None, "Number of this client, from 0; needed.")
_DATA = flags.DEFINE_string(
  "data", None, "File of this device's examples, as pipelines.device_data writes it."
)
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of LiteRT.")
_POLL = flags.DEFINE_float(
  "poll_seconds", 2.0, "Seconds from look to look for something new."
)
_TIMEOUT = flags.DEFINE_float(
  "timeout_seconds", 3600.0, "Seconds without anything new after which it gives up."
)
_TOKEN = flags.DEFINE_string(
  "token_file", None, "File that holds the secret of this client at the gateway."
)

_GROUPS = {
  "Messages": ["exchange", "client", "token_file", "poll_seconds", "timeout_seconds"],
  "Computing": ["data", "threads"],
}

_BYTES_PER_MB = 1e6
_LARGEST_TOKEN_BYTES = 4096


def main() -> Optional[int]:
  """Works until all is finished."""
  client = _checked_flags()
  token = _token(_TOKEN.value)
  exchange = exchange_flag.open_exchange(exchange_flag.EXCHANGE.value, token)
  # After the flags: it takes most of the start.
  from pipelines.apps.plain_progress import PlainProgress
  from pipelines.devices import device_examples, device_work
  from pipelines.devices.device_patience import Patience

  examples = device_examples.read(_DATA.value)
  lock = folder_lock.FolderLock(pathlib.Path(_DATA.value), "data")
  progress = PlainProgress()
  if token and getattr(exchange, "is_exposed", False):
    progress.warn("the secret travels unencrypted; use https://, or a tunnel")
  work = device_work.DeviceWork(
    device_work.Device(client, examples, _THREADS.value),
    exchange,
    Patience(_POLL.value, _TIMEOUT.value, client, progress),
    progress,
  )
  work.run()
  lock.release()
  totals = work.totals
  print(
    f"Finished: {totals.rounds} rounds, {totals.answers} answers, "
    f"{totals.computing_seconds:.1f} s computing, {exchange.received_bytes:,} bytes "
    f"received, {exchange.sent_bytes:,} bytes sent, {_peak_mb():.0f} MB of memory"
  )
  return None


def _checked_flags() -> int:
  """Returns the client's number.

  Raises:
    InputError: Naming the flag that is missing or impossible.
  """
  client = _CLIENT.value
  if client is None or not 0 <= client < 2**31:
    found = "is missing" if client is None else f"is {client}"
    raise InputError(f"--client {found}; give this client's number, from 0")
  if _THREADS.value < 1:
    raise InputError(f"--threads must be at least 1, got {_THREADS.value}")
  for flag in (_POLL, _TIMEOUT):
    if not 0 < flag.value < float("inf"):
      raise InputError(f"--{flag.name} must be more than 0, got {flag.value}")
  return client


def _token(name: Optional[str]) -> str:
  """Reads a secret; empty without a file.

  Raises:
    InputError: When there is none in it, in a message that tells nothing of it.
  """
  if not name:
    return ""
  try:
    content = device_exchange.read_file(pathlib.Path(name), _LARGEST_TOKEN_BYTES)
  except OSError as error:
    raise InputError(
      f"--token_file={name}: cannot be read ({error.strerror}); name the file of this "
      "client's secret"
    ) from error
  token = (content or b"").decode(errors="replace").strip()
  if not token.isascii() or not token.isprintable() or not token or " " in token:
    raise InputError(
      f"--token_file={name}: holds no secret of one line; write the one that the "
      "gateway has for this client"
    )
  return token


def _peak_mb() -> float:
  """Returns the most memory that this process had resident, in 10^6 bytes."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _BYTES_PER_MB


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, _GROUPS))
