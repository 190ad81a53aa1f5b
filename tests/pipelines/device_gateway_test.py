"""The gateway hands out what is meant for devices, and takes what is asked for."""

import contextlib
import dataclasses
import http.client
import json
import pathlib
import socket
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from fedtiny_tff.devices import device_messages, device_plan, device_tasks
from fedtiny_tff.devices.device_plan import DevicePlan, PlannedModel
from fedtiny_tff.devices.device_tasks import DeviceTask, TaskMessage
from fedtiny_tff.errors import InputError
from pipelines import device_gateway
from pipelines.apps import files, listening
from pipelines.apps.plain_progress import PlainProgress
from pipelines.devices import gateway_handler, gateway_rules
from tests.fedtiny_tff.federated.runtimes import workers
from tests.fedtiny_tff.support import quick
from tests.pipelines import support

PLAN = DevicePlan(
  PlannedModel("tiny", "00" * 32, (4, 2), "classify", 40, 10, 5, 6, 5, 0, 3),
  seed=1, rounds=9, batch_size=4, local_epochs=1, max_local_steps=0, blocks=(),
)  # fmt: skip
TASK = DeviceTask(PLAN.digest, device_tasks.TRAIN, (0, 3), (TaskMessage(7, "11" * 32),))
UPDATE = "devices/000003/update-000007.safetensors"
LARGEST = device_messages.largest_bytes(PLAN.update_layouts(None))
SECRETS = {"0": "zero-" * 4, "3": "three-" * 4}


def write(folder, path, content):
  files.write_bytes(folder / path, content)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
  folder = tmp_path / "exchange"
  write(folder, device_tasks.PLAN_PATH, PLAN.as_json().encode())
  write(folder, device_tasks.TASK_PATH, TASK.as_json().encode())
  write(folder, device_tasks.MODEL_PATH, b"model" * 50_000)
  write(folder, TASK.sent_path(TASK.messages[0]), b"round 7")
  (tmp_path / "secret").write_text("secret")
  (folder / "secret").write_text("secret")
  (folder / "server" / ".round-000007.safetensors.abcd1234.partial").write_text("half")
  (folder / "server" / "round-000008.safetensors").symlink_to(tmp_path / "secret")
  return folder


@contextlib.contextmanager
def serving(folder, tokens=None, kind=gateway_handler.GatewayServer, port=0):
  handler = gateway_handler.handler(folder, tokens, PlainProgress())
  with listening.HttpServer("127.0.0.1", port, handler, kind) as server:
    yield server.port


def ask(port, method, path, content=None, **headers):
  """Returns status and body."""
  connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
  with contextlib.closing(connection):
    connection.request(
      method, path, content, {name.replace("_", "-"): v for name, v in headers.items()}
    )
    response = connection.getresponse()
    return response.status, response.read()


def raw(port, request):
  """Sends bytes, and returns all that comes back."""
  with socket.create_connection(("127.0.0.1", port), 20) as connection:
    connection.sendall(request)
    connection.shutdown(socket.SHUT_WR)
    return b"".join(iter(lambda: connection.recv(65536), b""))


def stored(folder):
  return sorted(
    path.relative_to(folder).as_posix()
    for path in (folder / "devices").rglob("*")
    if path.is_file()
  )


def test_the_servers_files_are_handed_out(folder):
  with serving(folder) as port:
    for path in (*gateway_rules._FIXED, "server/round-000007.safetensors"):
      assert ask(port, "GET", f"/{path}") == (200, (folder / path).read_bytes())
      assert ask(port, "HEAD", f"/{path}") == (200, b"")
    assert ask(port, "GET", "/server/round-000009.safetensors")[0] == 404
    assert ask(port, "HEAD", "/server/round-000009.safetensors")[0] == 404


@pytest.mark.parametrize(
  "path",
  [
    "/", "", "//etc/passwd", "/secret", "/../secret", "/server/../secret",
    "/server/..%2f..%2fsecret", "/%2e%2e/secret", "/server", "/server/",
    "/server/.round-000007.safetensors.abcd1234.partial",
    "/server/round-000008.safetensors", "/server/round-7.safetensors",
    "/server/round-0000007.safetensors", "/server/update-000007.safetensors",
    "/server/-000007.safetensors", "/task.json?x", "/task.json/", "/TASK.json",
    "/client_plan.json%00", f"/{UPDATE}", "/devices/000003",
  ],
)  # fmt: skip
def test_nothing_else_is(folder, path):
  write(folder, UPDATE, b"an update")
  with serving(folder) as port:
    assert ask(port, "GET", path or "/")[0] == 404


_PIECES = st.sampled_from(
  ["server", "devices", "round-000007", "..", ".", "/", "//", "000003", "%2e", "\\",
   ".safetensors", "update-000007", "task.json", "secret", "\u0660", " ", "0", "~"]
)  # fmt: skip


@quick
@hypothesis.given(
  st.lists(_PIECES, max_size=7).map("".join)
  | st.text("/.-_09aersv%\\~\u0660", max_size=30)
)
def test_a_path_that_is_let_through_has_one_spelling(path):
  place = gateway_rules.answer_place(path)
  if place is not None:
    assert place.path == path
  if gateway_rules.readable(path) and path not in gateway_rules._FIXED:
    kind, _, number = path.removeprefix("server/").partition("-")
    assert kind in {each.sent for each in device_tasks.WORK.values()}
    assert f"{int(number.removesuffix('.safetensors')):06d}.safetensors" == number
  if place is not None or gateway_rules.readable(path):
    parts = pathlib.PurePosixPath("/folder", path).parts
    assert "/".join(parts[2:]) == path
    assert not {".", "..", ""} & set(parts)


@pytest.mark.parametrize("client", [0, 7, 999_999, 1_000_000])
def test_every_path_of_the_contract_is_known(client):
  for work, each in device_tasks.WORK.items():
    task = DeviceTask("", work)
    if each.sent:
      assert gateway_rules.readable(task.sent_path(TaskMessage(client, "")))
    if each.answer:
      path = task.answer_path(client, 12)
      assert gateway_rules.answer_place(path) == gateway_rules.AnswerPlace(
        client, each.answer, 12
      )


def test_an_answer_is_taken_and_may_come_again(folder, capsys):
  with serving(folder) as port:
    assert ask(port, "HEAD", f"/{UPDATE}")[0] == 404
    for content in (b"u" * LARGEST, b"again"):
      assert ask(port, "PUT", f"/{UPDATE}", content) == (201, b"")
      assert (folder / UPDATE).read_bytes() == content
    assert ask(port, "HEAD", f"/{UPDATE}")[0] == 200
  assert stored(folder) == [UPDATE]
  assert "update 7 of client 3: 5 bytes" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("path", "content", "status"),
  [
    (UPDATE, b"u" * (LARGEST + 1), 413),
    (UPDATE, b"u" * 3_000_000, 413),
    (UPDATE, b"", 413),
    ("devices/000001/update-000007.safetensors", b"u", 409),
    ("devices/000003/update-000008.safetensors", b"u", 409),
    ("devices/000003/moments-000007.safetensors", b"u", 409),
    ("devices/000003/hello-000000.safetensors", b"u", 409),
    ("devices/000003/round-000007.safetensors", b"u", 404),
    ("devices/3/update-000007.safetensors", b"u", 404),
    ("devices/000003/../update-000007.safetensors", b"u", 404),
    ("task.json", b"{}", 404),
    ("server/round-000007.safetensors", b"u", 404),
    ("model.tflite", b"u", 404),
  ],
)
def test_what_nobody_asked_for_is_not_taken(folder, path, content, status):
  before = support.snapshot(folder)
  with serving(folder) as port:
    assert ask(port, "PUT", f"/{path}", content)[0] == status
  assert support.snapshot(folder) == before


@pytest.mark.parametrize(
  ("work", "answer", "layouts"),
  [
    (device_tasks.HELLO, "hello", device_plan.hello_layouts()),
    (device_tasks.MEASURE, "moments", PLAN.moment_layouts()),
    (device_tasks.SCORE, "score", device_plan.metric_layouts()),
    (device_tasks.EVALUATE, "figures", device_plan.metric_layouts()),
  ],
)
def test_every_kind_has_its_length(folder, work, answer, layouts):
  messages = () if work == device_tasks.HELLO else (TaskMessage(0, ""),)
  task = dataclasses.replace(TASK, work=work, messages=messages)
  asked = gateway_rules.Asked(folder)
  place = gateway_rules.AnswerPlace(3, answer, 0)
  assert asked.most_bytes(place) is None
  write(folder, device_tasks.TASK_PATH, task.as_json().encode())
  assert asked.most_bytes(place) == device_messages.largest_bytes(layouts)
  for spoilt in (b"{", b"", bytes(1000)):
    write(folder, device_tasks.TASK_PATH, spoilt)
    assert asked.most_bytes(place) is None
  (folder / device_tasks.TASK_PATH).unlink()
  assert asked.most_bytes(place) is None


def test_a_block_that_is_not_planned_is_asked_for_by_nobody(folder):
  write(
    folder,
    device_tasks.TASK_PATH,
    dataclasses.replace(TASK, block=0).as_json().encode(),
  )
  place = gateway_rules.answer_place(UPDATE)
  assert place is not None
  assert gateway_rules.Asked(folder).most_bytes(place) is None


@pytest.mark.parametrize(
  ("head", "status"),
  [
    ("", b"411"),
    ("Content-Length: 2\r\nContent-Length: 3\r\n", b"411"),
    ("Content-Length: -2\r\n", b"411"),
    ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"411"),
    ("Content-Length: 9\r\n", b""),
  ],
)
def test_bodies_of_no_clear_length_are_not_taken(folder, head, status):
  with serving(folder) as port:
    back = raw(port, f"PUT /{UPDATE} HTTP/1.0\r\n{head}\r\nab".encode())
    assert back[9:12] == status
    # Nothing half-written stays.
    assert ask(port, "GET", "/task.json")[0] == 200
  assert not (folder / "devices").exists() or not list(
    (folder / "devices").rglob("*.*")
  )


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "MOVE"])
def test_other_methods_are_none(folder, method):
  with serving(folder) as port:
    assert ask(port, method, "/task.json")[0] == 501


def test_who_has_no_secret_gets_nothing(folder, tmp_path):
  path = tmp_path / "tokens.json"
  path.write_text(json.dumps(SECRETS))
  mine, other = ({"Authorization": f"Bearer {SECRETS[each]}"} for each in "30")
  with serving(folder, gateway_rules.read_tokens(str(path))) as port:
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": SECRETS["3"]}):
      for method in ("GET", "HEAD", "PUT"):
        assert ask(port, method, "/task.json", **headers)[0] == 401
    assert ask(port, "GET", "/task.json", **mine)[0] == 200
    assert ask(port, "PUT", f"/{UPDATE}", b"u", **other)[0] == 403
    assert ask(port, "HEAD", f"/{UPDATE}", **other)[0] == 403
    assert ask(port, "PUT", f"/{UPDATE}", b"u", **mine)[0] == 201
    assert ask(port, "HEAD", f"/{UPDATE}", **mine)[0] == 200


@pytest.mark.parametrize(
  "text",
  ["", "[]", "{}", '{"0": 1}', '{"0": "short"}', '{"x": "long-enough-secret"}', "{",
   '{"0": "long-enough-secret", "1": "long-enough-secret"}', '{"0": "has a blank in it!"}'],
)  # fmt: skip
def test_other_token_files_are_refused_without_telling_secrets(tmp_path, text):
  path = tmp_path / "tokens.json"
  path.write_text(text)
  with pytest.raises(InputError, match="is no JSON object of each client") as refused:
    gateway_rules.read_tokens(str(path))
  assert "enough" not in str(refused.value)
  assert refused.value.__cause__ is None


def test_a_connection_that_lasts_too_long_is_ended(folder):
  class Short(gateway_handler.GatewayServer):
    longest_seconds = 0.2

  with (
    serving(folder, kind=Short) as port,
    socket.create_connection(("127.0.0.1", port), 20) as connection,
  ):
    connection.sendall(b"GET /task.json HT")
    assert connection.recv(100) == b""
    assert ask(port, "GET", "/task.json")[0] == 200


def test_too_many_connections_are_turned_away(folder, monkeypatch):
  monkeypatch.setattr(gateway_handler, "_MOST_CONNECTIONS", 1)
  with serving(folder) as port:
    with socket.create_connection(("127.0.0.1", port), 20) as first:
      first.sendall(b"GET")
      with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(port, "GET", "/task.json")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
      with contextlib.suppress(http.client.HTTPException, ConnectionError):
        assert ask(port, "GET", "/task.json")[0] == 200
        return
  pytest.fail("the place of a connection that ended was not given away")


def test_a_folder_that_cannot_be_written_is_told(folder, capsys):
  (folder / "devices").write_text("a file where a folder should be")
  with serving(folder) as port:
    assert ask(port, "PUT", f"/{UPDATE}", b"u")[0] == 507
  assert "warning: cannot write update 7 of client 3" in capsys.readouterr().err


def test_the_app_serves_until_it_is_terminated(folder, tmp_path):
  (port,) = workers.free_ports(1)
  app = support.App(
    tmp_path, "device_gateway", f"--exchange={folder}", f"--port={port}",
    "--address=127.0.0.2",
  )  # fmt: skip
  assert workers.until(lambda: "is ready" in app.stdout), app.stderr
  with pytest.raises(ConnectionRefusedError):
    socket.create_connection(("127.0.0.1", port))
  connection = http.client.HTTPConnection("127.0.0.2", port, timeout=20)
  connection.request("GET", "/task.json")
  assert connection.getresponse().read() == (folder / "task.json").read_bytes()
  app.process.terminate()
  assert app.wait() == 0
  assert app.stderr == ""


@pytest.mark.parametrize(
  ("arguments", "line"),
  [
    ([], "--exchange is missing: name the folder"),
    (["--exchange=/no/such"], "--exchange=/no/such: is no folder"),
    (["--exchange=/tmp"], "--port is missing"),
    (["--exchange=/tmp", "--port=1", "--address=here"], "--address=here: is no IP"),
    (
      ["--exchange=/tmp", "--port=1", "--request_seconds=0"],
      "--request_seconds must be",
    ),
    (
      ["--exchange=/tmp", "--port=1", "--tokens_file=/no/x"],
      "--tokens_file=/no/x: is no",
    ),
    (
      ["--exchange=/tmp", "--port=7", "--address=192.0.2.1"],
      "--port: cannot listen at",
    ),
  ],
)
def test_bad_input_is_one_line(arguments, line, capsys):
  assert support.call("device_gateway", device_gateway.main, *arguments) == 2
  (said,) = capsys.readouterr().err.splitlines()
  assert said.startswith(f"device_gateway: {line}")


@pytest.mark.parametrize(
  ("has_tokens", "said"), [(True, "TLS"), (False, "--tokens_file")]
)
def test_an_open_address_is_warned_of(has_tokens, said):
  assert said in device_gateway._warning("0.0.0.0:1", has_tokens)
