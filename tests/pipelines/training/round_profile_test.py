"""Times add up, calls to a worker are told apart, and other rounds are left alone."""

import contextlib
import io
import types
from concurrent import futures

import grpc
import pytest
import rich.console
from google.protobuf import wrappers_pb2  # type: ignore[import-untyped]

from fedtiny_tff.errors import InputError
from pipelines.training import round_profile
from tests.pipelines import support


@pytest.fixture(name="clock")
def fixture_clock(monkeypatch):
  clock = support.Clock()
  fake = types.SimpleNamespace(monotonic=clock)
  monkeypatch.setattr(round_profile, "time", fake)
  monkeypatch.setattr(
    round_profile, "_cpu_seconds",
    lambda: {"driver": 0.5 * clock.now, "worker": 0.25 * clock.now},
  )  # fmt: skip
  return clock


def _call(start, end, is_sending=False, sent=10, received=1):
  return round_profile._Call(start, end, is_sending, sent, received)


@pytest.mark.parametrize(
  ("spans", "seconds"),
  [
    ([], 0.0),
    ([(1, 3)], 2.0),
    ([(1, 3), (5, 6)], 3.0),
    # Overlapping, and one within another.
    ([(2, 5), (1, 3)], 4.0),
    ([(1, 9), (2, 3), (4, 5)], 8.0),
  ],
)
def test_calls_at_the_same_time_count_once(spans, seconds):
  assert round_profile._covered([_call(*span) for span in spans]) == seconds


def test_parts_of_a_round_add_up(clock, tmp_path):
  profile = round_profile.RoundProfile(2, tmp_path)
  for number in range(4):
    with profile.round(number, 4 - number):
      clock.now += 1.0
      with profile.stage("clients"):
        start = clock.now
        clock.now += 8.0
        if profile._is_on:
          profile._wire.calls += [
            _call(start + 1, start + 2, is_sending=True),
            # Computes from 1.5 to 6.
            _call(start + 1.5, start + 6),
          ]
      with profile.stage("saving"):
        clock.now += 3.0
  profile.stop()
  document = profile.document()
  # The first is passed over; the last is one too many.
  assert document["rounds"] == [1, 2]
  assert document["seconds_per_round"] == 12.0
  parts = {(p["stage"], p["where"]): p["seconds_per_round"] for p in document["parts"]}
  assert parts == {
    ("clients", "driver"): 3.0,
    ("clients", "sending to the worker"): 0.5,
    ("clients", "worker"): 4.5,
    ("saving", "driver"): 3.0,
    ("everything else", "driver"): 1.0,
  }
  assert sum(part["share"] for part in document["parts"]) == pytest.approx(1.0)
  assert document["cpu_seconds_per_round"] == {"driver": 6.0, "worker": 3.0}
  assert document["bytes_to_worker_per_round"] == 20
  assert document["bytes_from_worker_per_round"] == 2
  assert list(tmp_path.glob("rounds/plugins/profile/*/*.xplane.pb"))


def test_of_few_rounds_all_are_taken(clock, tmp_path):
  profile = round_profile.RoundProfile(5, tmp_path)
  for number in (7, 8):
    with profile.round(number, 9 - number):
      clock.now += 1.0
  profile.stop()
  assert profile.document()["rounds"] == [7, 8]
  assert list(tmp_path.glob("rounds/plugins/profile/*/*.xplane.pb"))


def test_a_broken_round_is_left_out(clock, tmp_path):
  profile = round_profile.RoundProfile(1, tmp_path)
  with pytest.raises(KeyboardInterrupt), profile.round(0, 1):
    raise KeyboardInterrupt
  assert profile.document()["rounds"] == []
  # TensorFlow's profiler was let go of: only one can be at work.
  with profile.round(0, 1):
    clock.now += 1.0
  assert profile.document()["rounds"] == [0]


def test_without_the_flag_nothing_is_observed(clock):
  profile = round_profile.NOTHING
  assert profile.interceptors == ()
  with profile.round(0, 1), profile.stage("clients"):
    clock.now += 1.0
  profile.stop()
  assert profile.document()["rounds"] == []


@contextlib.contextmanager
def _worker():
  """Runs a server that answers CreateValue and Compute with three bytes more."""

  def answer(request, context):
    return wrappers_pb2.BytesValue(value=request.value + b"end")

  handler = grpc.unary_unary_rpc_method_handler(
    answer,
    request_deserializer=wrappers_pb2.BytesValue.FromString,
    response_serializer=wrappers_pb2.BytesValue.SerializeToString,
  )
  server = grpc.server(futures.ThreadPoolExecutor(1))
  methods = {"CreateValue": handler, "Compute": handler}
  server.add_generic_rpc_handlers(
    (grpc.method_handlers_generic_handler("a.Group", methods),)
  )
  port = server.add_insecure_port("localhost:0")
  server.start()
  try:
    yield port
  finally:
    server.stop(None)


def test_real_calls_are_seen(tmp_path):
  profile = round_profile.RoundProfile(1, tmp_path)
  with _worker() as port, grpc.insecure_channel(f"localhost:{port}") as plain:
    channel = grpc.intercept_channel(plain, *profile.interceptors)

    def call(method):
      return channel.unary_unary(
        f"/a.Group/{method}",
        request_serializer=wrappers_pb2.BytesValue.SerializeToString,
        response_deserializer=wrappers_pb2.BytesValue.FromString,
      )(wrappers_pb2.BytesValue(value=b"12345"))

    # Outside a round that is profiled.
    assert call("Compute").value == b"12345end"
    with profile.round(0, 1), profile.stage("clients"):
      call("CreateValue")
      call("Compute")
      with pytest.raises(grpc.RpcError):
        call("Unknown")
  calls = profile._wire.calls
  assert [each.is_sending for each in calls] == [True, False, False]
  # A tag and a length, then the bytes.
  assert [(each.sent_bytes, each.received_bytes) for each in calls] == [
    (7, 10), (7, 10), (7, 0),
  ]  # fmt: skip
  assert all(each.end > each.start for each in calls)
  where = {part["where"] for part in profile.document()["parts"]}
  assert where == {"driver", "sending to the worker", "worker"}


def test_the_table_tells_all(clock, tmp_path):
  profile = round_profile.RoundProfile(1, tmp_path)
  with profile.round(0, 1), profile.stage("saving"):
    clock.now += 0.25
  document = profile.document() | {
    "client": {"client": 3, "examples": 1234, "seconds": 0.5}
  }
  assert round_profile.read(tmp_path) is None
  round_profile.write(tmp_path, document)
  shown = io.StringIO()
  console = rich.console.Console(file=shown, width=100)
  read = round_profile.read(tmp_path)
  assert read is not None
  round_profile.show(read, console)
  text = shown.getvalue()
  assert "rounds 0 to 0" in text
  assert "250.0" in text
  assert "driver 125 ms, worker 62 ms" in text
  assert "500.0 ms for 1,234 examples" in text


@pytest.mark.parametrize(
  "content",
  [
    "",
    pytest.param("[" * 100_000, id="deep"),
    "{}",
    "[]",
    '{"rounds": []}',
    r'{"rounds": ["\ud800"]}',
  ],
)
def test_a_damaged_profile_is_named(tmp_path, content):
  (tmp_path / "profile.json").write_text(content)
  with pytest.raises(InputError, match=r"profile\.json: is no profile .* delete it"):
    round_profile.read(tmp_path)


def test_a_negative_number_is_refused():
  with pytest.raises(InputError, match="--profile must be at least 0, got -1"):
    support.make_config(profile=-1)
