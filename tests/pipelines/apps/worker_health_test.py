"""Tests of the answers to probes."""

import http.client
import socket

import pytest

from pipelines.apps import worker_health


def ask(host: str, port: int, path: str, method: str = "GET") -> tuple[int, str]:
  connection = http.client.HTTPConnection(host, port, timeout=10.0)
  try:
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()
  finally:
    connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_what_a_check_finds_when_it_is_asked(host):
  problems = [""]
  with worker_health.HealthServer(host, 0, {"/ready": lambda: problems[0]}) as server:
    assert ask(host, server.port, "/ready") == (200, "ok\n")
    problems[0] = "no data"
    assert ask(host, server.port, "/ready") == (503, "no data\n")
    assert ask(host, server.port, "/") == (404, "ask for /ready\n")
    assert ask(host, server.port, "/ready", "POST")[0] == 501


def test_somebody_who_says_nothing_keeps_nobody_waiting():
  with (
    worker_health.HealthServer("127.0.0.1", 0, {"/x": lambda: ""}) as server,
    socket.create_connection(("127.0.0.1", server.port)),
  ):
    assert ask("127.0.0.1", server.port, "/x")[0] == 200


def test_the_port_is_free_afterwards_and_taken_before():
  with worker_health.HealthServer("127.0.0.1", 0, {}) as server:
    port = server.port
    with pytest.raises(OSError, match="in use"):
      worker_health.HealthServer("127.0.0.1", port, {})
  with worker_health.HealthServer("127.0.0.1", port, {}):
    pass
