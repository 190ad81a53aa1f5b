"""What is read has a limit, what is written is whole, and outages are told from ends."""

import contextlib
import errno
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import pytest

from fedtiny_tff.devices import device_tasks
from fedtiny_tff.errors import InputError
from pipelines.apps import listening
from pipelines.devices import (
  device_exchange,
  exchange_flag,
  gateway_handler,
  gateway_rules,
)
from pipelines.devices.device_exchange import (
  Final,
  FolderExchange,
  Unreachable,
  Unwanted,
)
from pipelines.devices.device_http import HttpExchange
from tests.pipelines import device_gateway_test as gateway

UPDATE = gateway.UPDATE


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
  folder = tmp_path / "exchange"
  gateway.write(folder, device_tasks.PLAN_PATH, gateway.PLAN.as_json().encode())
  gateway.write(folder, device_tasks.TASK_PATH, gateway.TASK.as_json().encode())
  return folder


def to(port, token="", path=""):
  return HttpExchange(urllib.parse.urlsplit(f"http://127.0.0.1:{port}{path}"), token)


@contextlib.contextmanager
def by_folder(folder):
  yield FolderExchange(folder)


@contextlib.contextmanager
def by_http(folder):
  with gateway.serving(folder) as port:
    yield to(port)


@pytest.mark.parametrize("way", [by_folder, by_http])
def test_both_ways_do_the_same(folder, way):
  task = (folder / device_tasks.TASK_PATH).read_bytes()
  with way(folder) as exchange:
    assert exchange.read(device_tasks.TASK_PATH, len(task)) == task
    assert exchange.read(device_tasks.MODEL_PATH, 10) is None
    assert not exchange.exists(UPDATE)
    exchange.write(UPDATE, b"update")
    assert exchange.exists(UPDATE)
    with pytest.raises(InputError, match=f"task.json: has more than {len(task) - 1:,}"):
      exchange.read(device_tasks.TASK_PATH, len(task) - 1)
    assert (exchange.received_bytes, exchange.sent_bytes) == (2 * len(task), 6)
  assert (folder / UPDATE).read_bytes() == b"update"


def test_a_folder_that_is_not_there_yet_is_empty(tmp_path):
  exchange = FolderExchange(tmp_path / "none")
  assert exchange.read(device_tasks.TASK_PATH, 10) is None
  assert not exchange.exists(UPDATE)


def test_what_is_no_file_is_nothing(folder):
  os.mkfifo(folder / "server")
  (folder / "devices").mkdir()
  exchange = FolderExchange(folder)
  assert exchange.read("server", 10) is None
  assert exchange.read("devices", 10) is None
  assert exchange.read("task.json/more", 10) is None
  assert not exchange.exists("server")


@pytest.mark.parametrize(
  ("code", "kind"),
  [
    (errno.ESTALE, Unreachable), (errno.EIO, Unreachable), (errno.EACCES, Final),
    (errno.ENOSPC, OSError),
  ],
)  # fmt: skip
def test_a_folder_s_errors(folder, monkeypatch, code, kind):
  def fail(*arguments):
    raise OSError(code, os.strerror(code))

  monkeypatch.setattr(device_exchange.files, "write_bytes", fail)
  with pytest.raises(kind) as failed:
    FolderExchange(folder).write(UPDATE, b"update")
  assert os.strerror(code) in str(failed.value)


@contextlib.contextmanager
def answering(reply, dripped=0):
  """Sends the same bytes to everybody, and some more one by one."""
  with socket.create_server(("127.0.0.1", 0)) as server:

    def serve():
      with contextlib.suppress(OSError):
        while True:
          connection, _ = server.accept()
          with connection:
            connection.recv(65536)
            connection.sendall(reply)
            for _ in range(dripped):
              time.sleep(0.03)
              connection.sendall(b"x")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
  ("reply", "kind", "said"),
  [
    (b"", Unreachable, "closed connection without response"),
    (b"SSH-2.0\r\n", Unreachable, "SSH-2.0"),
    (b"HTTP/1.0 500 Oh\r\n\r\n", Unreachable, "the gateway answers 500 Oh"),
    (b"HTTP/1.0 302 Go\r\nLocation: /\r\n\r\n", Unreachable, "answers 302"),
    (b"HTTP/1.0 429 Wait\r\n\r\n", Unreachable, "answers 429"),
    (b"HTTP/1.0 409 No\r\n\r\n", Unreachable, "answers 409"),
    (
      b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
      Unreachable,
      "broke off after 4",
    ),
    (b"HTTP/1.0 200 OK\r\n\r\n" + bytes(99), InputError, "has more than 50 bytes"),
    (b"HTTP/1.0 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n", Unreachable, "headers"),
    (b"HTTP/1.0 400 Bad\r\n\r\n", InputError, "the gateway refuses it"),
    (b"HTTP/1.0 401 Who\r\n\r\n", Final, "--token_file: the gateway does not admit"),
    (b"HTTP/1.0 403 You\r\n\r\n", Final, "--token_file: the gateway does not admit"),
  ],
)
def test_what_a_gateway_may_answer(reply, kind, said):
  with answering(reply) as port, pytest.raises(kind) as failed:
    to(port).read("task.json", 50)
  assert type(failed.value) is kind
  assert said in str(failed.value)


@pytest.mark.parametrize("begun", [b"", b"\r\n"], ids=["headers", "body"])
def test_a_gateway_that_drips_holds_nobody(begun):
  """This one is done after some seconds; one that means harm never would be."""
  head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n" + begun
  with answering(head, dripped=100) as port:
    exchange = to(port)
    exchange.request_seconds = 0.2
    with pytest.raises(Unreachable, match=r"^task\.json: took more than 0\.2 s$"):
      exchange.read("task.json", 300)


def test_a_gateway_that_is_not_there():
  with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
  with pytest.raises(Unreachable, match="refused"):
    to(port).exists("task.json")


def test_an_answer_that_nobody_asks_for_is_unwanted(folder):
  with gateway.serving(folder) as port:
    with pytest.raises(Unwanted):
      to(port).write(UPDATE.replace("7", "8"), b"u" * 1_000_000)
    with pytest.raises(InputError, match="the gateway refuses it"):
      to(port).write(UPDATE, b"u" * 1_000_000)


def test_a_secret_opens(folder):
  tokens = gateway_rules.Tokens({3: "three-three-three"})
  with gateway.serving(folder, tokens) as port:
    assert to(port, "three-three-three").read("task.json", 9999)
    with pytest.raises(Final) as refused:
      to(port, "three-three-thref").read("task.json", 9999)
  assert "three" not in str(refused.value)


def test_a_path_of_the_address_comes_first():
  seen = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      seen.append(self.path)
      self.send_error(404)

    def log_message(self, *arguments):
      pass

  with listening.HttpServer("127.0.0.1", 0, Handler) as server:
    assert to(server.port, path="/runs/a b/").read("task.json", 9) is None
  assert seen == ["/runs/a%20b/task.json"]


@pytest.mark.parametrize(
  ("target", "said"),
  [
    (None, "--exchange is missing"), ("", "--exchange is missing"),
    ("ftp://host", "is no address"), ("http://", "is no address"),
    ("http://host:port", "is no address"), ("http://host:99999", "is no address"),
    ("http://host/?a=b", "is no address"), ("http://a..b", "is no address"),
    ("http://[::1", "is no address"),
  ],
)  # fmt: skip
def test_no_exchange_is_one_line(target, said):
  with pytest.raises(InputError, match=said):
    exchange_flag.open_exchange(target)


def test_exchanges_are_told_apart(tmp_path):
  assert isinstance(exchange_flag.open_exchange(str(tmp_path)), FolderExchange)
  for name, is_exposed in (
    ("https://host/runs", False), ("http://host:80", True), ("http://localhost:80", False),
    ("http://[::1]:8080", False), ("http://10.0.0.1", True),
  ):  # fmt: skip
    exchange = exchange_flag.open_exchange(name, "secret")
    assert isinstance(exchange, HttpExchange)
    assert exchange.is_exposed == is_exposed
  with pytest.raises(InputError, match="leave --token_file out for a folder"):
    exchange_flag.open_exchange(str(tmp_path), "secret")


@contextlib.contextmanager
def encrypted(folder, scratch):
  """Serves over TLS as localhost; yields the address and the certificate's file."""
  key, certificate = scratch / "key.pem", scratch / "certificate.pem"
  subprocess.run(
    ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
     "-nodes", "-days", "2", "-subj", "/CN=localhost",
     "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
    check=True, capture_output=True,
  )  # fmt: skip
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
  context.load_cert_chain(certificate, key)

  class Server(gateway_handler.GatewayServer):
    def get_request(self):
      connection, address = super().get_request()
      return context.wrap_socket(connection, server_side=True), address

  with gateway.serving(folder, kind=Server) as port:
    yield f"https://localhost:{port}", certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is needed")
def test_a_certificate_must_be_known(folder, tmp_path, monkeypatch):
  with encrypted(folder, tmp_path) as (address, certificate):
    with pytest.raises(Final, match=r"localhost is not trusted .* SSL_CERT_FILE"):
      exchange_flag.open_exchange(address).read("task.json", 9999)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    exchange = exchange_flag.open_exchange(address)
    exchange.write(UPDATE, b"u")
    assert exchange.exists(UPDATE)
    with pytest.raises(Final, match=r"127\.0\.0\.1 is not trusted"):
      other = address.replace("localhost", "127.0.0.1")
      exchange_flag.open_exchange(other).read("task.json", 9999)
