"""Latencies from a scripted clock, and real files in turn."""

import dataclasses
import itertools
import platform

import numpy as np
import pytest

from fedtiny_tff.errors import InputError
from tests.tflite_export import models
from tflite_export.artifacts import VerificationError
from tflite_export.runtimes import latency, litert


@pytest.fixture(name="calls")
def fixture_calls(monkeypatch):
  """Notes who is invoked instead of computing anything."""
  calls = []

  def prepared(content, example, threads):
    return lambda: calls.append((content, threads))

  monkeypatch.setattr(litert, "prepared", prepared)
  return calls


def _clock(durations):
  """Returns a clock that lets each measured inference take the next duration."""
  moments = []
  now = 0.0
  for duration in durations:
    moments += [now, now + duration]
    now += duration
  return iter(moments).__next__


def test_figures_by_hand(calls):
  # "a" takes 1 to 5 s, "b" always 2 s; warm-up runs, 9 s each, do not count. The clock
  # is read once for an inference that does not count.
  measured = list(itertools.chain(*([float(n), 2.0] for n in (3, 1, 5, 2, 4))))
  warm_up = itertools.repeat(0.0)
  rest = _clock(measured)
  found = latency.measure(
    {"a": b"A", "b": b"B"},
    np.zeros(1),
    threads=2,
    runs=5,
    clock=lambda: next(warm_up) if len(calls) < 10 else rest(),
  )
  # Of 1, 2, 3, 4, 5: the 90th percentile lies at 3.6 of 4 steps, between 4 and 5.
  assert found["a"].p90_seconds == pytest.approx(4.6)
  assert dataclasses.replace(found["a"], p90_seconds=0.0) == latency.Latency(
    2, 5, 3.0, 0.0
  )
  assert found["b"] == latency.Latency(2, 5, 2.0, 2.0)


def test_files_are_measured_in_turn(calls):
  latency.measure({"a": b"A", "b": b"B"}, np.zeros(1), threads=3, runs=4)
  assert calls == [(b"A", 3), (b"B", 3)] * 9


@pytest.mark.parametrize("format", ["fp32_sparse", "int8_dense"])
def test_real_files_take_time(format):
  file = models.converted(format)
  found = latency.measure({"f": file}, models.random_inputs(1)[0], threads=1, runs=5)
  assert 0 < found["f"].median_seconds <= found["f"].p90_seconds


@pytest.mark.parametrize(("threads", "runs"), [(0, 5), (1, 0)])
def test_nothing_is_measured_with_no_run(threads, runs):
  with pytest.raises(InputError, match=f"got {threads} and {runs}"):
    latency.measure({}, np.zeros(1), threads=threads, runs=runs)


def test_a_file_that_does_not_load_is_refused():
  damaged = models.converted("fp32_dense")[:3000]
  with pytest.raises(VerificationError, match="does not load"):
    latency.measure({"f": damaged}, models.random_inputs(1)[0], threads=1, runs=1)


@pytest.mark.parametrize(
  ("machine", "sparse"), [("x86_64", False), ("aarch64", True), ("arm64", True)]
)
def test_zeros_are_skipped_on_arm_only(monkeypatch, machine, sparse):
  monkeypatch.setattr(platform, "machine", lambda: machine)
  assert latency.runs_sparse_here() is sparse
