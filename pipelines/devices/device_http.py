"""A device's way to a gateway, over HTTP or HTTPS, with the standard library alone."""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Optional

from fedtiny_tff.errors import InputError
from pipelines.devices.device_exchange import Final, Unreachable, Unwanted, too_long

# For one piece; a gateway that sends some now and then has `request_seconds`.
_TRANSFER_SECONDS = 30.0
_CHUNK_BYTES = 1 << 16
_STORED = (200, 201, 204)
_DENIED = (401, 403)
# The gateway's word for what nobody asks for at present.
_CONFLICT = 409
# What passes by itself: a slow network, too many at once.
_PASSING = (408, 429)


class HttpExchange:
  """A gateway, reached anew for every message, for as long as it would wait itself.

  Attributes:
    request_seconds: How long an answer may take, from the first byte to the last.
  """

  request_seconds = 600.0

  def __init__(self, address: urllib.parse.SplitResult, token: str = ""):
    """Takes an address that was parsed, and what proves who asks."""
    self._address = address
    self._headers = {"Authorization": f"Bearer {token}"} if token else {}
    self._trust = ssl.create_default_context() if address.scheme == "https" else None
    self.received_bytes = 0
    self.sent_bytes = 0

  @property
  def is_exposed(self) -> bool:
    """Whether others on the network can read along."""
    host = self._address.hostname or ""
    try:
      is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
      is_local = host == "localhost"
    return self._trust is None and not is_local

  def read(self, path: str, most_bytes: int) -> Optional[bytes]:
    """Reads a file; see `Exchange`."""
    with self._asked("GET", path) as response:
      if response.status == http.HTTPStatus.NOT_FOUND:
        return None
      self._check(response, path)
      content = _read_whole(response, most_bytes)
    self.received_bytes += len(content)
    if len(content) > most_bytes:
      raise too_long(path, most_bytes)
    if response.length:
      raise Unreachable(f"{path}: broke off after {len(content):,} bytes")
    return content

  def exists(self, path: str) -> bool:
    """Tells whether a file is there; see `Exchange`."""
    with self._asked("HEAD", path) as response:
      if response.status == http.HTTPStatus.NOT_FOUND:
        return False
      self._check(response, path)
      return True

  def write(self, path: str, content: bytes) -> None:
    """Writes a file; see `Exchange`."""
    with self._asked("PUT", path, content) as response:
      if response.status == _CONFLICT:
        raise Unwanted(path)
      self._check(response, path)
    self.sent_bytes += len(content)

  @contextlib.contextmanager
  def _asked(
    self, method: str, path: str, content: Optional[bytes] = None
  ) -> Iterator[http.client.HTTPResponse]:
    connection = self._connection()
    watch = None
    try:
      connection.connect()
      # Whatever arrives, in however small pieces, headers too.
      watch = threading.Timer(self.request_seconds, _cut, [connection.sock])
      watch.daemon = True
      watch.start()
      begun = time.monotonic()
      folder = urllib.parse.quote(self._address.path.rstrip("/"), safe="/%")
      place = f"{folder}/{path}"
      connection.request(method, place, content, self._headers)
      yield connection.getresponse()
      if time.monotonic() - begun >= self.request_seconds:
        raise Unreachable(f"{path}: took more than {self.request_seconds:g} s")
    except ssl.SSLCertVerificationError as error:
      raise Final(
        f"--exchange: the certificate of {self._address.hostname} is not trusted "
        f"({error.verify_message}); name its authority's file in SSL_CERT_FILE"
      ) from error
    except (OSError, http.client.HTTPException) as error:
      raise Unreachable(f"{path}: {error or type(error).__name__}") from error
    finally:
      if watch is not None:
        watch.cancel()
      connection.close()

  def _connection(self) -> http.client.HTTPConnection:
    host, port = self._address.hostname or "", self._address.port
    if self._trust is None:
      return http.client.HTTPConnection(host, port, timeout=_TRANSFER_SECONDS)
    return http.client.HTTPSConnection(
      host, port, timeout=_TRANSFER_SECONDS, context=self._trust
    )

  def _check(self, response: http.client.HTTPResponse, path: str) -> None:
    """Raises unless the gateway did what it was asked for."""
    status = response.status
    if status in _STORED:
      return
    if status in _DENIED:
      raise Final(
        f"--token_file: the gateway does not admit this client to {path} ({status}); "
        "give the secret that it has for --client"
      )
    if 400 <= status < 500 and status not in (*_PASSING, _CONFLICT):
      raise InputError(
        f"{path}: the gateway refuses it ({status} {response.reason}); run the same "
        "release on both sides"
      )
    raise Unreachable(f"{path}: the gateway answers {status} {response.reason}")


def _cut(connection: socket.socket) -> None:
  """Ends a connection under whoever waits for it."""
  with contextlib.suppress(OSError):
    # Not TLS' own, which takes the state away that is being read with.
    socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _read_whole(response: http.client.HTTPResponse, most_bytes: int) -> bytes:
  """Reads an answer, or one byte more than it may have."""
  parts = []
  left = most_bytes + 1
  while left and (part := response.read(min(_CHUNK_BYTES, left))):
    parts.append(part)
    left -= len(part)
  return b"".join(parts)
