"""How a gateway answers devices: it hands out the server's files and takes answers."""

import contextlib
import http.server
import logging
import os
import pathlib
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Optional

from pipelines.apps import files, listening
from pipelines.apps.plain_progress import PlainProgress
from pipelines.devices.device_exchange import open_regular
from pipelines.devices.gateway_rules import (
  AnswerPlace,
  Asked,
  Tokens,
  answer_place,
  readable,
)

# For one piece; a connection that is slower is let go.
_PIECE_SECONDS = 30.0
_CHUNK_BYTES = 1 << 16
# What is refused is read all the same, up to this: else its sender sees no reason.
_DRAINED_BYTES = 64 << 20
_MOST_CONNECTIONS = 256


class _Incomplete(Exception):
  """Less arrived than was announced."""


class GatewayServer(listening.ThreadingServer):
  """Holds a limited number of connections, each for a limited time."""

  request_queue_size = 128
  longest_seconds = 600.0

  def __init__(
    self, host: str, port: int, handler: type[http.server.BaseHTTPRequestHandler]
  ):
    """Takes the port; see `ThreadingServer`."""
    self._lock = threading.Lock()
    self._begun: dict[socket.socket, float] = {}
    super().__init__(host, port, handler)

  def process_request(self, request: Any, client_address: Any) -> None:
    """Answers in a thread, unless there are too many."""
    with self._lock:
      is_full = len(self._begun) >= _MOST_CONNECTIONS
      if not is_full:
        self._begun[request] = time.monotonic()
    if is_full:
      self.shutdown_request(request)
    else:
      super().process_request(request, client_address)

  def shutdown_request(self, request: Any) -> None:
    """Ends a connection."""
    with self._lock:
      self._begun.pop(request, None)
    super().shutdown_request(request)

  def service_actions(self) -> None:
    """Ends those that take too long."""
    with self._lock:
      begun = list(self._begun.items())
    for request, since in begun:
      if time.monotonic() - since > self.longest_seconds:
        with contextlib.suppress(OSError):
          request.shutdown(socket.SHUT_RDWR)

  def handle_error(self, request: Any, client_address: Any) -> None:
    """Lets lost connections be; anything else is a defect, and told."""
    if not isinstance(sys.exc_info()[1], OSError):
      super().handle_error(request, client_address)


def handler(
  folder: pathlib.Path, tokens: Optional[Tokens], progress: PlainProgress
) -> type[http.server.BaseHTTPRequestHandler]:
  """Returns what answers for a folder.

  Args:
    folder: Whose files are handed out.
    tokens: Who may ask; None for everybody.
    progress: Where answers that came are told.
  """
  asked = Asked(folder)

  class Handler(_Handler):
    def __init__(self, *arguments: Any):
      self.folder, self.tokens, self.asked, self.progress = (
        folder, tokens, asked, progress,
      )  # fmt: skip
      super().__init__(*arguments)

  return Handler


class _Handler(http.server.BaseHTTPRequestHandler):
  folder: pathlib.Path
  tokens: Optional[Tokens]
  asked: Asked
  progress: PlainProgress

  # Of the body of the one request that a connection has.
  _taken = 0

  timeout = _PIECE_SECONDS
  server_version = "fedtiny"
  sys_version = ""

  def do_GET(self) -> None:
    """Hands out one of the server's files."""
    path = self.path.removeprefix("/")
    if not self._admits(None):
      return
    if not readable(path):
      self._end(404, "nothing is there")
      return
    self._hand_out(path)

  def do_HEAD(self) -> None:
    """Tells whether one of the server's files is there, or an answer."""
    path = self.path.removeprefix("/")
    place = answer_place(path)
    if not self._admits(place):
      return
    if not readable(path) and place is None:
      self._end(404, "nothing is there")
      return
    try:
      is_there = stat.S_ISREG((self.folder / path).lstat().st_mode)
    except OSError:
      is_there = False
    self._end(200 if is_there else 404, "" if is_there else "nothing is there")

  def do_PUT(self) -> None:
    """Takes an answer."""
    place = answer_place(self.path.removeprefix("/"))
    if not self._admits(place):
      return
    if place is None:
      self._end(404, "answers go to devices/CLIENT/KIND-NUMBER.safetensors")
      return
    length = self._length()
    if length is None:
      self._end(411, "say in Content-Length how long it is")
      return
    most = self.asked.most_bytes(place)
    if most is None:
      self._end(409, "nobody asks for this now")
    elif not 0 < length <= most:
      self._end(413, f"has {length} bytes, at most {most} are possible")
    else:
      self._take(place, length)

  def _admits(self, place: Optional[AnswerPlace]) -> bool:
    """Whether who asks is known, and the place is its own; else says so."""
    if self.tokens is None:
      return True
    client = self.tokens.client(self.headers.get("Authorization"))
    if client is None:
      self._end(401, "give this client's secret")
      return False
    if place is not None and place.client != client:
      self._end(403, "this is another client's")
      return False
    return True

  def _length(self) -> Optional[int]:
    """Returns how long the body is said to be."""
    stated = self.headers.get_all("Content-Length") or []
    if len(stated) != 1 or "Transfer-Encoding" in self.headers:
      return None
    text = stated[0].strip()
    is_number = text.isascii() and text.isdigit() and len(text) <= 18
    return int(text) if is_number else None

  def _hand_out(self, path: str) -> None:
    try:
      file = open_regular(self.folder / path)
    except OSError:
      file = None
    if file is None:
      self._end(404, "nothing is there")
      return
    # A file that is replaced meanwhile stays as it was for who has it open.
    with file:
      size = os.fstat(file.fileno()).st_size
      self._head(200, "application/octet-stream", size)
      while part := file.read(_CHUNK_BYTES):
        self.wfile.write(part)

  def _take(self, place: AnswerPlace, length: int) -> None:
    """Writes an answer while it arrives, whole or not at all."""
    try:
      with files.replacing(self.folder / place.path) as file:
        for part in self._parts(length):
          file.write(part)
    except _Incomplete:
      self.close_connection = True
      return
    except OSError as error:
      why = f"cannot write {place}: {error.strerror}; mend the folder"
      self._tell(why, logging.WARNING)
      self._end(507, "the folder cannot be written to")
      return
    self._tell(f"{place}: {length:,} bytes")
    self._end(201, "")

  def _parts(self, length: int) -> Iterator[bytes]:
    """Yields a body piece by piece.

    Raises:
      _Incomplete: When it ends too early.
    """
    left = length
    while left:
      try:
        part = self.rfile.read(min(left, _CHUNK_BYTES))
      except OSError as error:
        raise _Incomplete from error
      if not part:
        raise _Incomplete
      left -= len(part)
      self._taken += len(part)
      yield part

  def _end(self, status: int, text: str) -> None:
    """Answers with a line."""
    if self.command == "PUT":
      self._drain()
    body = f"{text}\n".encode() if text else b""
    if status == 401:
      self.send_response(status)
      self.send_header("WWW-Authenticate", "Bearer")
      self._headers_of("text/plain; charset=utf-8", len(body))
    else:
      self._head(status, "text/plain; charset=utf-8", len(body))
    if self.command != "HEAD":
      self.wfile.write(body)

  def _drain(self) -> None:
    """Reads what is left of a body that nobody wants."""
    left = (self._length() or 0) - self._taken
    with contextlib.suppress(_Incomplete):
      for _ in self._parts(max(min(left, _DRAINED_BYTES), 0)):
        pass

  def _head(self, status: int, kind: str, length: int) -> None:
    self.send_response(status)
    self._headers_of(kind, length)

  def _headers_of(self, kind: str, length: int) -> None:
    self.send_header("Content-Type", kind)
    self.send_header("Content-Length", str(length))
    # A proxy that keeps a task would keep devices from the next.
    self.send_header("Cache-Control", "no-store")
    self.end_headers()

  def _tell(self, line: str, level: int = logging.INFO) -> None:
    # The main thread ends the process.
    with contextlib.suppress(KeyboardInterrupt):
      self.progress.say(line, level)

  def log_message(self, format: str, *args: object) -> None:
    """Keeps requests, which anybody can send, out of the output."""
