"""How one speaks with a TFF worker: addresses, channels, and whether it answers.

Nothing here loads TensorFlow Federated, which takes seconds.
"""

import ipaddress
import re
import time
from collections.abc import Sequence

import grpc

from fedtiny_tff.errors import InputError

_MAX_MESSAGE_BYTES = 2_000_000_000
# gRPC's own first wait of a second is longer than a worker needs to start.
_FIRST_RECONNECT_MILLISECONDS = 100
_CONNECT_MILLISECONDS = 10_000
_LONGEST_RECONNECT_MILLISECONDS = 2_000
_OPTIONS = (
  ("grpc.max_message_length", _MAX_MESSAGE_BYTES),
  ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
  ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
  # Its name notwithstanding, how long one attempt to connect may take.
  ("grpc.min_reconnect_backoff_ms", _CONNECT_MILLISECONDS),
  ("grpc.initial_reconnect_backoff_ms", _FIRST_RECONNECT_MILLISECONDS),
  ("grpc.max_reconnect_backoff_ms", _LONGEST_RECONNECT_MILLISECONDS),
  # Proxies of the environment are for the web.
  ("grpc.enable_http_proxy", 0),
  # Otherwise a channel made anew would wait as long as the broken one before it.
  ("grpc.use_local_subchannel_pool", 1),
)
# Disposes of no values, which every worker does at once, however busy.
_HARMLESS_CALL = "/tensorflow_federated.v0.ExecutorGroup/Dispose"
# What is left for the last workers when the first do not answer.
_LAST_SECONDS = 0.5
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def parse_address(text: str) -> str:
  """Checks an address `host:port`; IPv6 is written `[::1]:8000`.

  Raises:
    InputError: When it is none.
  """
  host, _, port = text.strip().rpartition(":")
  is_port = port.isascii() and port.isdigit() and 0 < int(port) < 2**16
  if not is_port or not _is_host(host):
    raise InputError(
      f"{text!r} is no address of a worker; write host:port, with a port of 1 to 65535"
    )
  return f"{host}:{int(port)}"


def _is_host(text: str) -> bool:
  if text.startswith("[") and text.endswith("]"):
    try:
      ipaddress.IPv6Address(text[1:-1])
    except ValueError:
      return False
    return True
  return _HOST.fullmatch(text) is not None


def parse_addresses(texts: Sequence[str]) -> tuple[str, ...]:
  """Checks the addresses of several workers.

  Raises:
    InputError: When one is none, or is named twice.
  """
  addresses = tuple(parse_address(text) for text in texts)
  for address in addresses:
    if addresses.count(address) > 1:
      raise InputError(f"worker {address} is named twice; name each worker once")
  return addresses


def open_channel(target: str) -> grpc.Channel:
  """Opens an unencrypted channel to a worker; it connects when it is used."""
  return grpc.insecure_channel(target, _OPTIONS)


def require_answers(addresses: Sequence[str], seconds: float) -> None:
  """Waits until every worker has answered.

  Args:
    addresses: `host:port` of each.
    seconds: How long to wait for them.

  Raises:
    InputError: Naming those that have not.
  """
  deadline = time.monotonic() + seconds
  silent = []
  for address in addresses:
    left = max(deadline - time.monotonic(), _LAST_SECONDS)
    with open_channel(address) as channel:
      if not answers(channel, left, waits=True):
        silent.append(address)
  if silent:
    raise no_answer(silent, seconds)


def no_answer(addresses: Sequence[str], seconds: float) -> InputError:
  """Returns the error that workers do not answer."""
  return InputError(
    f"no answer in {seconds:g} s from worker {', '.join(addresses)}: start it with "
    "`python -m pipelines.worker`, look at the network between, or leave it out"
  )


def answers(channel: grpc.Channel, seconds: float, *, waits: bool = False) -> bool:
  """Tells whether a worker answers a harmless call.

  Args:
    channel: To the worker.
    seconds: How long to wait for its answer.
    waits: Whether to wait as long for a connection; otherwise one that is refused is
      an answer.
  """
  call = channel.unary_unary(_HARMLESS_CALL)
  try:
    call(b"", timeout=seconds, wait_for_ready=waits)
  # ValueError: the channel was closed meanwhile.
  except (grpc.RpcError, ValueError):
    return False
  return True
