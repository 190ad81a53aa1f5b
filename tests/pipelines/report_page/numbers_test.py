"""Numbers for people, axes, and points that may be left out."""

import math

import hypothesis
import pytest
from hypothesis import strategies as st

from pipelines.report_page import numbers
from tests.fedtiny_tff import support

_SPACE = "\N{NO-BREAK SPACE}"
_FINITE = st.floats(-1e12, 1e12, allow_nan=False)


@pytest.mark.parametrize(
  ("value", "text"),
  [(0.5, "50.0 %"), (0.98051, "98.1 %"), (1e-5, "0.001 %"), (0.0, "0.0 %"), (None, "–"),
   (math.nan, "–"), (math.inf, "–")],
)  # fmt: skip
def test_shares(value, text):
  assert numbers.percent(value) == text.replace(" ", _SPACE)


@pytest.mark.parametrize(
  ("value", "text"),
  [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (12_608, "12.6 kB"), (154_058, "154 kB"),
   (999_600, "1.0 MB"), (2.5e6, "2.5 MB"), (-1_500, "-1.5 kB"), (None, "–")],
)  # fmt: skip
def test_sizes(value, text):
  assert numbers.size(value) == text.replace(" ", _SPACE)


@pytest.mark.parametrize(
  ("value", "text"),
  [(291_081_600, "291 M"), (2.704e9, "2.7 G"), (12, "12"), (None, "–")],
)
def test_operations(value, text):
  assert numbers.operations(value) == text.replace(" ", _SPACE)


def test_ticks_by_hand():
  assert numbers.ticks(0.0, 0.72) == [0.0, 0.2, 0.4, 0.6, 0.8]
  assert numbers.ticks(0.0, 100.0) == [0, 20, 40, 60, 80, 100]
  assert numbers.ticks(0.0, 0.0)[0] == 0.0
  # 0.1 + 0.2 is not what a label says.
  assert 0.3 in numbers.ticks(0.0, 0.5)


@hypothesis.given(low=_FINITE, extent=st.floats(0, 1e12, allow_nan=False))
@support.quick
def test_ticks_enclose_what_is_drawn(low, extent):
  found = numbers.ticks(low, low + extent)
  slack = 1e-6 * max(1.0, abs(low), extent)
  assert found[0] <= low + slack
  assert found[-1] >= low + extent - slack
  assert found == sorted(set(found))
  assert 2 <= len(found) <= 14


def test_thinning_by_hand():
  values = [0.0] * 100
  values[37], values[61] = 5.0, -5.0
  kept = numbers.thinned(values, {11, 12}, 8)
  assert {0, 11, 12, 37, 61, 99} <= set(kept)
  assert len(kept) <= 2 * 3 + 2 + 2


@hypothesis.given(
  values=st.lists(st.one_of(st.none(), st.floats()), max_size=400),
  keep=st.sets(st.integers(-5, 405), max_size=300),
  most=st.integers(4, 50),
)
@support.quick
def test_thinning_keeps_events_ends_and_peaks(values, keep, most):
  kept = numbers.thinned(values, keep, most)
  assert kept == sorted(set(kept))
  assert {place for place in keep if 0 <= place < len(values)} <= set(kept)
  if values:
    assert {0, len(values) - 1} <= set(kept)
  known = [value for value in values if value is not None and math.isfinite(value)]
  if known:
    assert {min(known), max(known)} <= {values[place] for place in kept}
  assert len(kept) <= max(most, most + 2 + len(keep))


@hypothesis.given(total=st.integers(1, 500), most=st.integers(1, 60))
@support.quick
def test_bins_divide_everything(total, most):
  parts = numbers.bins(total, most)
  assert [place for part in parts for place in part] == list(range(total))
  assert len(parts) == min(total, most)
  assert max(map(len, parts)) - min(map(len, parts)) <= 1


@hypothesis.given(text=st.text(max_size=60), most=st.integers(4, 30))
@support.quick
def test_names_are_shortened(text, most):
  short = numbers.shortened(text, most)
  assert 1 <= len(short) <= most
  assert "\n" not in short


def test_both_ends_of_a_name_are_kept():
  assert numbers.shortened("block3/conv1/pointwise", 13) == "bloc…ointwise"
