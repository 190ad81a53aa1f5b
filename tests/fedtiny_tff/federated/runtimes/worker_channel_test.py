"""Tests of addresses, and of whether a worker answers."""

import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.errors import InputError
from fedtiny_tff.federated.runtimes import worker_channel
from tests.fedtiny_tff import support
from tests.fedtiny_tff.federated.runtimes import workers


@pytest.mark.parametrize(
  ("text", "address"),
  [
    ("worker-1:8000", "worker-1:8000"),
    (" 10.0.0.1:08000 ", "10.0.0.1:8000"),
    ("a.b.c:1", "a.b.c:1"),
    ("[::1]:65535", "[::1]:65535"),
  ],
)
def test_addresses(text, address):
  assert worker_channel.parse_address(text) == address


@pytest.mark.parametrize(
  "text",
  [
    "", ":", "worker", "worker:", ":8000", "worker:0", "worker:65536", "worker:-1",
    "worker:8o", "worker:٣", "::1:8000", "[::g]:1", "[]:1", "http://worker:80",
    "unix:/tmp/x", "dns:///worker:80", "-a:1", "a b:1",
  ],
)  # fmt: skip
def test_what_is_no_address(text):
  with pytest.raises(
    InputError, match="is no address of a worker; write host:port"
  ) as e:
    worker_channel.parse_address(text)
  assert "\n" not in str(e.value)


@support.quick
@given(st.text(max_size=30))
def test_any_text_is_an_address_or_is_refused(text):
  try:
    address = worker_channel.parse_address(text)
  except InputError as error:
    assert len(str(error).splitlines()) == 1
  else:
    assert worker_channel.parse_address(address) == address


def test_an_address_twice():
  assert worker_channel.parse_addresses(["a:1", "a:2"]) == ("a:1", "a:2")
  with pytest.raises(InputError, match="worker a:1 is named twice"):
    worker_channel.parse_addresses(["a:1", "b:1", "a:01"])


def test_nobody_answers_at_a_closed_port_or_on_a_closed_channel():
  (port,) = workers.free_ports(1)
  channel = worker_channel.open_channel(f"127.0.0.1:{port}")
  assert not worker_channel.answers(channel, 5.0)
  channel.close()
  assert not worker_channel.answers(channel, 5.0)


def test_something_else_that_listens_does_not_answer():
  with socket.socket() as silent:
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    target = f"127.0.0.1:{silent.getsockname()[1]}"
    with worker_channel.open_channel(target) as channel:
      assert not worker_channel.answers(channel, 0.3, waits=True)


def test_a_connection_that_is_slow_to_come_about_is_waited_for():
  with (
    workers.running_workers(1) as running,
    socket.create_server(("127.0.0.1", 0)) as listener,
    worker_channel.open_channel(f"127.0.0.1:{listener.getsockname()[1]}") as channel,
  ):

    def pass_on(source, sink):
      while data := source.recv(1 << 16):
        sink.sendall(data)

    def serve():
      visitor, _ = listener.accept()
      # Longer than the first pause between attempts.
      time.sleep(0.4)
      host, _, port = running.addresses[0].rpartition(":")
      with visitor, socket.create_connection((host, int(port))) as inside:
        threading.Thread(target=pass_on, args=(visitor, inside), daemon=True).start()
        pass_on(inside, visitor)

    threading.Thread(target=serve, daemon=True).start()
    assert worker_channel.answers(channel, 10.0)


def test_a_worker_answers_unless_it_is_stopped():
  with (
    workers.running_workers(1) as running,
    worker_channel.open_channel(running.addresses[0]) as channel,
  ):
    assert worker_channel.answers(channel, 5.0, waits=True)
    running.silence(0)
    assert not worker_channel.answers(channel, 0.3)
    running.wake(0)
    assert worker_channel.answers(channel, 5.0)


def test_all_must_answer_where_that_is_required():
  (port,) = workers.free_ports(1)
  with workers.running_workers(1) as running:
    worker_channel.require_answers(running.addresses, 30.0)
    addresses = [f"127.0.0.1:{port}", *running.addresses]
    with pytest.raises(
      InputError, match=f"no answer in 0.1 s from worker {addresses[0]}:"
    ):
      worker_channel.require_answers(addresses, 0.1)
