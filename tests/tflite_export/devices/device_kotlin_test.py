"""The client in Kotlin answers as the one in Python does, message by message."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.devices import device_messages, device_plan, device_tasks
from fedtiny_tff.devices.device_messages import Envelope
from fedtiny_tff.devices.device_tasks import DeviceTask, TaskMessage
from fedtiny_tff.sparsity import positions
from tests.pipelines import support
from tests.pipelines.devices import device_exchange_test
from tests.tflite_export.device_training import device_model_test as tiny
from tests.tflite_export.device_training import device_runtime_test as python_client
from tflite_export.device_training import device_bundle
from tflite_export.devices import device_kotlin

_STAND_INS = pathlib.Path(__file__).parent / "kotlin_client"
_CLIENT, _ROUND = python_client.CLIENT, python_client.ROUND


def _run(*command):
  done = subprocess.run(command, capture_output=True, check=False, text=True)
  assert done.returncode == 0, done.stderr
  return done.stdout.splitlines()


def _compiled(folder: pathlib.Path, bundle: device_bundle.DeviceBundle) -> pathlib.Path:
  """Compiles the exported sources with stand-ins for Android; returns the jar."""
  missing = [name for name in ("javac", "java", "kotlinc") if not shutil.which(name)]
  if missing:
    pytest.skip(f"needs {', '.join(missing)} (Debian: default-jdk-headless, kotlin)")
  folder.mkdir()
  for name, text in device_kotlin.sources(bundle).items():
    (folder / name).write_text(text, encoding="utf-8")
  java = map(str, _STAND_INS.rglob("*.java"))
  _run("javac", "-Xlint:all", "-Werror", "-d", str(folder), *java)
  kotlin = [*folder.glob("*.kt"), *_STAND_INS.rglob("*.kt")]
  jar = folder / "client.jar"
  options = ["-cp", str(folder), "-include-runtime", "-d", str(jar)]
  _run("kotlinc", *options, *map(str, kotlin))
  return jar


def _java(
  jar: pathlib.Path, *arguments: object, token: str = "", seconds: int = 600
) -> list[str]:
  options = [
    f"-Dpython={sys.executable}",
    f"-Dbridge={_STAND_INS / 'bridge.py'}",
    f"-Dclient={_CLIENT}",
    f"-Dtoken={token}",
    f"-Dseconds={seconds}",
  ]
  classes = os.pathsep.join([str(jar), str(jar.parent)])
  command = ["java", *options, "-cp", classes, "org.example.model.MainKt"]
  return _run(*command, *map(str, arguments))


def _write_examples(path: pathlib.Path, examples) -> None:
  rows = [
    np.int32(label).tobytes() + inputs.astype("<f4").tobytes()
    for inputs, label in zip(examples.inputs, examples.labels, strict=True)
  ]
  path.write_bytes(b"".join(rows))


class _Folder:
  """A server's folder and this device's data; the Python client answers beside."""

  def __init__(self, path: pathlib.Path):
    self.path, self.data = path / "exchange", path / "data"
    (self.path / "server").mkdir(parents=True)
    self.data.mkdir()
    (self.data / "model.tflite").write_bytes(python_client.bundle().content)
    _write_examples(self.data / "training", python_client.examples(13, 0))
    _write_examples(self.data / "held_out", python_client.examples(11, 1))
    self._tasks = 0

  def task(self, work, message=b"", number=0, block=None, **changes) -> pathlib.Path:
    """Writes a message, and a task that names it, for `Main.kt` to put in place."""
    named = (TaskMessage(number, device_tasks.message_digest(message)),)
    plan = python_client.bundle().plan.digest
    task = DeviceTask(plan, work, (1, _CLIENT), named if message else (), block)
    task = dataclasses.replace(task, **changes)
    if message:
      (self.path / task.sent_path(named[0])).write_bytes(message)
    self._tasks += 1
    path = self.data / f"task_{self._tasks}.json"
    path.write_text(task.as_json())
    return path

  def answer(self, kind: str, number: int) -> bytes:
    path = self.path / device_tasks.answer_path(_CLIENT, kind, number)
    return path.read_bytes()


def _tensors(content: bytes, kind, number, layouts, message=b""):
  digest = device_tasks.message_digest(message) if message else ""
  plan = python_client.bundle().plan.digest
  envelope = Envelope(kind, plan, number, _CLIENT, digest)
  return device_messages.read(content, envelope, layouts)


# Of Kotlin 1.3's library, what 2.1 to 2.3 refuse; CI has the older compiler alone.
_REFUSED_LATER = re.compile(
  r"\.(to(Lower|Upper)Case|(de)?capitalize|appendln|sumBy|sumByDouble)\(|symbol\.to\w+\("
)


def test_newer_compilers_take_it():
  for name, text in device_kotlin.sources(python_client.bundle()).items():
    assert not _REFUSED_LATER.findall(text), name


@pytest.fixture(name="jar", scope="module")
def fixture_jar(tmp_path_factory):
  return _compiled(
    tmp_path_factory.mktemp("kotlin") / "classes", python_client.bundle()
  )


@pytest.mark.slow
def test_kotlin_answers_as_python_does(jar, tmp_path):
  """Slow, because Kotlin brings half a gigabyte of packages along."""
  plan, folder = python_client.bundle().plan, _Folder(tmp_path)
  candidate = python_client.sent("candidate", 2)
  scoring = python_client.sent("scoring", 2)
  plain, adjusting = python_client.round_message(), python_client.sent(
    "round", 3, learning_rate=np.array([0.1], np.float32),
    counts=np.array([3, 4], np.int32),
  )  # fmt: skip
  evaluation = python_client.sent("evaluation", 3)
  altered = bytearray(plain)
  altered[-1] ^= 1
  tasks = {
    folder.task("hello"): "ANSWERED",
    folder.task("measure", candidate, 2): "ANSWERED",
    folder.task("score", scoring, 2): "ANSWERED",
    folder.task("train", plain, _ROUND): "ANSWERED",
    folder.task("train", adjusting, 3, block=1): "ANSWERED",
    folder.task("evaluate", evaluation, 3): "ANSWERED",
    folder.task("hello", clients=(_CLIENT + 1,)): "WAITING",
    folder.task("hello", plan="0" * 64): "refused: task.json: is of another plan",
    folder.task("train", bytes(altered), 5): "refused: round message for round 5: its round",
    folder.task("train", plain[:-1], 6): "refused: round message for round 6: is no whole",
    folder.task("evaluate", plain, 7): "refused: evaluation message for round 7: its kind",
    folder.task("finished"): "FINISHED",
  }  # fmt: skip
  printed = _java(jar, "steps", folder.data, folder.path, *tasks)
  assert len(printed) == len(tasks)
  for line, wanted in zip(printed, tasks.values(), strict=True):
    assert line.startswith(wanted), line
  device = python_client.device()

  def untold(done, of):
    del done, of

  hello, one = device_plan.hello_layouts(), device_plan.metric_layouts()
  expected = [
    ("hello", 0, b"", device.hello(), hello),
    ("moments", 2, candidate, device.measure(candidate, 2), plan.moment_layouts()),
    ("score", 2, scoring, device.score(scoring, 2), one),
    ("update", _ROUND, plain, device.train(plain, _ROUND, None, untold),
     plan.update_layouts(None)),
    ("update", 3, adjusting, device.train(adjusting, 3, 1, untold),
     plan.update_layouts(1)),
    ("figures", 3, evaluation, device.evaluate(evaluation, 3), one),
  ]  # fmt: skip
  for kind, number, message, content, layouts in expected:
    found = _tensors(folder.answer(kind, number), kind, number, layouts, message)
    for name, values in _tensors(content, kind, number, layouts, message).items():
      np.testing.assert_array_equal(found[name], values, err_msg=f"{kind} {name}")
  assert not list((folder.path / "devices").rglob("update-000005*"))


@pytest.mark.slow
@pytest.mark.parametrize("label", [-1, tiny.CLASSES])
def test_kotlin_takes_no_label_without_an_output(jar, tmp_path, label):
  folder = _Folder(tmp_path)
  own = python_client.examples(11, 1)
  labels = np.where(np.arange(11) == 7, label, own.labels)
  spoilt = dataclasses.replace(own, labels=labels)
  _write_examples(folder.data / "held_out", spoilt)
  task = folder.task("evaluate", python_client.sent("evaluation", 3), 3)
  (line,) = _java(jar, "steps", folder.data, folder.path, task)
  assert line.startswith(
    f"refused: an example's label is {label}, the model has 3 clas"
  )
  assert not (folder.path / "devices").exists()


@pytest.mark.slow
def test_kotlin_and_the_gateway(jar, tmp_path):
  folder, bundle = _Folder(tmp_path), python_client.bundle()
  (folder.path / device_tasks.PLAN_PATH).write_text(bundle.plan.as_json())
  (folder.path / device_tasks.MODEL_PATH).write_bytes(bundle.content)
  message = python_client.round_message()
  task = folder.task("train", message, _ROUND)
  shutil.copy(task, folder.path / device_tasks.TASK_PATH)
  secrets = {"1": "another client's" * 2, str(_CLIENT): "this client's" * 2}
  tokens = tmp_path / "tokens.json"
  tokens.write_text(json.dumps({n: s.replace(" ", "_") for n, s in secrets.items()}))
  with _gateway(folder.path, tokens) as address:
    for client, wanted in (("1", "refused: devices/"), ("x", "refused: task.json")):
      token = secrets.get(client, "nobody").replace(" ", "_")
      (line,) = _java(jar, "steps", folder.data, address, "-", token=token)
      assert line.startswith(wanted) and "does not admit this client" in line
    assert not (folder.path / "devices").exists()
    token = secrets[str(_CLIENT)].replace(" ", "_")
    printed = _java(jar, "steps", folder.data, address, "-", "-", token=token)
  assert printed == ["ANSWERED", "ANSWERED"]
  layouts = bundle.plan.update_layouts(None)
  _tensors(folder.answer("update", _ROUND), "update", _ROUND, layouts, message)


@pytest.mark.slow
def test_kotlin_leaves_a_gateway_that_drips(jar, tmp_path):
  head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
  with device_exchange_test.answering(head, dripped=100) as port:
    address, data = f"http://127.0.0.1:{port}", _Folder(tmp_path).data
    (line,) = _java(jar, "steps", data, address, "-", seconds=0)
  assert line == "away: task.json: took more than 0 s"


@contextlib.contextmanager
def _gateway(folder: pathlib.Path, tokens: pathlib.Path) -> Iterator[str]:
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  flags = [f"--exchange={folder}", f"--port={port}", f"--tokens_file={tokens}"]
  command = [sys.executable, "-m", "pipelines.device_gateway", *flags]
  with subprocess.Popen(command, cwd=support.ROOT, stdout=subprocess.PIPE) as process:
    try:
      # It says so when it is ready.
      assert process.stdout is not None and process.stdout.readline()
      yield f"http://127.0.0.1:{port}"
    finally:
      process.terminate()


@pytest.mark.slow
def test_kotlin_takes_no_altered_message(jar, tmp_path):
  message = python_client.round_message()
  length = int.from_bytes(message[:8], "little")
  generator = np.random.default_rng(0)
  altered = [message[:count] for count in (0, 7, 8, 8 + length, len(message) - 1)]
  altered += [message + b"0", bytes(200), message + bytes(1 << 20)]
  altered += [(2**63 - 1 - n).to_bytes(8, "little") + message[8:] for n in (0, 2**62)]
  for place in (*range(8), *generator.integers(8, len(message), 200)):
    changed = bytearray(message)
    changed[place] ^= 1 << int(generator.integers(0, 8))
    altered.append(bytes(changed))
  for old, new in (
    (b'"shape":[', b'"shape":[-'), (b"[0,", b"[0.5,"), (b'"F32"', b'"F64"'),
    (b'"data_offsets":[', b'"data_offsets":[9'), (b"{", b"[" * 9000), (b"}", b",}"),
    (b'"shape":[', b'"shape":[4294967296,4294967296,'),
  ):  # fmt: skip
    header = message[8 : 8 + length].replace(old, new)
    altered.append(len(header).to_bytes(8, "little") + header + message[8 + length :])
  paths = [tmp_path / str(number) for number in range(len(altered))]
  for path, content in zip(paths, altered, strict=True):
    path.write_bytes(content)
  (tmp_path / "whole").write_bytes(message)
  *lines, whole = _java(jar, "messages", _ROUND, *paths, tmp_path / "whole")
  assert whole.startswith("[")
  assert [line for line in lines if not line.startswith("refused: round message")] == []
  # Nor one of another round.
  (line,) = _java(jar, "messages", _ROUND + 1, tmp_path / "whole")
  assert "its round is 1, expected is 2" in line


@pytest.mark.slow
def test_kotlin_reads_positions_and_json_strictly(tmp_path):
  """Slow, because it compiles a client for another code of positions."""
  bundle = python_client.bundle()
  code = positions.PositionCode(240, 20, 3)
  model = dataclasses.replace(
    bundle.plan.model, active=20, position_bytes=code.encoded_bytes, position_low_bits=3
  )
  changed = dataclasses.replace(
    bundle, plan=dataclasses.replace(bundle.plan, model=model)
  )
  jar = _compiled(tmp_path / "classes", changed)
  paths, wanted = [], []
  for seed in range(4):
    mask = np.zeros(240, bool)
    mask[np.random.default_rng(seed).choice(240, 20, replace=False)] = True
    paths.append(tmp_path / f"{seed}.bin")
    paths[-1].write_bytes(code.encode(tf.constant(mask)).numpy().tobytes())
    wanted.append(
      " ".join(str(np.int8(byte)) for byte in np.packbits(mask).view(np.int8))
    )
  for name, content in (
    ("zeros", bytes(code.encoded_bytes)),
    ("ones", b"\xff" * code.encoded_bytes),
  ):
    paths.append(tmp_path / name)
    paths[-1].write_bytes(content)
    wanted.append("refused: positions: ")
  found = _java(jar, "positions", *paths)
  for line, start in zip(found, wanted, strict=True):
    assert line.startswith(start)
  texts = {
    '{"a": [1, -2.5, "\\u00e9", null, true]}': "{a=[1, -2.5, é, null, true]}",
    '{"a": 1, "a": 2}': "refused", "[1,]": "refused", "01": "refused", "'a'": "refused",
    "1 2": "refused", '"\t"': "refused", "[" * 40 + "]" * 40: "refused", "": "refused",
    "NaN": "refused", '"\\x"': "refused", '{"a"}': "refused", "[1": "refused",
  }  # fmt: skip
  paths = [tmp_path / f"{number}.json" for number in range(len(texts))]
  for path, text in zip(paths, texts, strict=True):
    path.write_text(text, encoding="utf-8")
  lines = _java(jar, "json", *paths)
  for line, (text, start) in zip(lines, texts.items(), strict=True):
    assert line.startswith(start), (text, line)
