"""Charts: where things are, by hand; what hovering tells; nothing gets out of its text."""

import struct
import zlib
from xml.etree import ElementTree

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pipelines.report_page import (
  bar_chart,
  column_chart,
  heat_map,
  line_chart,
  mask_picture,
  svg,
)
from pipelines.report_page.content import Table
from tests.fedtiny_tff import support

_TEXTS = st.text("aZ0 <>&\"'/=;é汉\u202e😀…", max_size=30)
_HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


def _tree(picture):
  return ElementTree.fromstring(str(picture))


def _tips(picture):
  return [
    each.get("data-tip") for each in _tree(picture).iter() if each.get("data-tip")
  ]


def _lines(series, **more):
  axes = line_chart.Axes("round")
  return line_chart.draw("Loss", "It falls", series, axes, **more)


def test_a_line_is_where_its_numbers_are():
  picture = _lines([line_chart.Series("a", ((0, 0.0), (10, 1.0)), 0)])
  path = next(
    each for each in _tree(picture) if "line" in each.get("class", "").split()
  )
  # 480 wide, 54 left and 14 right; 260 high, 14 above and 46 below.
  assert path.get("d") == "M54 214L466 14"


def test_a_missing_value_breaks_the_line():
  points = ((0, 0.0), (1, None), (2, 1.0), (3, 1.0))
  picture = _lines([line_chart.Series("a", points, 0)])
  path = next(
    each for each in _tree(picture) if "line" in each.get("class", "").split()
  )
  assert path.get("d").count("M") == 2


def test_every_event_is_there_and_told():
  events = [line_chart.Event(round_, f"at {round_}") for round_ in range(0, 1000, 2)]
  picture = _lines([line_chart.Series("a", ((0, 1.0), (999, 2.0)), 0)], events=events)
  assert [f"at {round_}" for round_ in range(0, 1000, 2)] == _tips(picture)
  few = _lines([line_chart.Series("a", ((0, 1.0), (9, 2.0)), 0)], events=events[:3])
  assert str(few).count('class="event-mark"') == 3


def test_areas_to_hover_cover_the_chart():
  picture = _lines(
    [line_chart.Series("a", ((0, 1.0), (10, 2.0)), 0)],
    tips=[(0.0, "l"), (4.0, "m"), (10.0, "r")],
  )
  areas = [each for each in _tree(picture) if each.get("data-tip")]
  spans = [(float(a.get("x")), float(a.get("width"))) for a in areas]
  # 412 wide: midway between rounds 0, 4 and 10.
  assert spans == [(54.0, 82.4), (136.4, 206.0), (342.4, 123.6)]


def test_bars_of_nothing_have_no_length():
  rows = [bar_chart.Bar(name, 0.0, "0 %", name) for name in "ab"]
  picture = bar_chart.bars("All wrong", "", rows, str)
  areas = [each for each in _tree(picture) if "area" in each.get("class", "")]
  assert [float(each.get("width")) for each in areas] == [0.0, 0.0]


@hypothesis.given(
  points=st.lists(
    st.tuples(st.integers(0, 2000), st.one_of(st.none(), st.floats(-1e9, 1e9))), min_size=1, max_size=50
  ),
  name=_TEXTS,
)  # fmt: skip
@hypothesis.settings(parent=support.quick, max_examples=25)
def test_any_numbers_and_names_make_a_picture(points, name):
  axes = line_chart.Axes(name, y_limits=(0.0, float("inf")))
  picture = line_chart.draw(
    name, name, [line_chart.Series(name, tuple(sorted(points, key=lambda p: p[0])), 5)], axes,
    [line_chart.Event(3, name)], [(float(points[0][0]), name)],
  )  # fmt: skip
  tree = _tree(picture)
  assert tree.get("aria-label") == f"{name}. {name}"
  assert "nan" not in str(picture).replace(name, "")


def test_bars_by_hand():
  rows = [
    bar_chart.Bar("a", 50, "50", "tip a"),
    bar_chart.Bar("b", 100, "100", "tip b"),
  ]
  picture = bar_chart.bars("t", "d", rows, str)
  widths = [
    float(e.get("width")) for e in _tree(picture) if "area" in e.get("class", "")
  ]
  # The axis ends at 100, 274 from where it begins.
  assert widths == [137.0, 274.0]
  assert _tips(picture) == ["tip a", "tip b"]


def test_steps_begin_where_the_last_one_ended():
  row = bar_chart.Stairs("file", ((0, 60, "weights"), (1, 40, "positions")), "100 B")
  picture = bar_chart.stairs("t", "d", [row], str)
  boxes = [e for e in _tree(picture) if "area" in e.get("class", "")]
  first, second = ((float(e.get("x")), float(e.get("width"))) for e in boxes)
  assert first == (210.0, 434.4)
  assert second == (644.4, 289.6)
  assert [float(e.get("y")) for e in boxes] == [14.0, 21.0]


def test_dots_mark_the_winner():
  dots = [
    column_chart.Dot(0, 2.0, "zero", False),
    column_chart.Dot(1, 1.0, "one", True),
  ]
  text = str(column_chart.dots("t", "d", dots, "candidate"))
  assert text.count("★") == 1
  assert text.count('class="dot k0"') == 1


def test_columns_go_both_ways():
  columns = [column_chart.Column("3", 10, 5, "tip")]
  boxes = [
    e
    for e in _tree(column_chart.mirrored("t", "d", columns, "round"))
    if "area" in e.get("class", "")
  ]
  up, down = (float(e.get("height")) for e in boxes)
  assert up == pytest.approx(2 * down, abs=0.02)
  assert down > 0


def _labels(rows, columns):
  return heat_map.Labels(rows, columns, "class", "client")


def test_a_map_puts_neighbours_together():
  values = np.arange(12.0).reshape(3, 4)
  shown = heat_map.binned(values, _labels(list("abc"), list("wxyz")), rows=3, columns=2)
  np.testing.assert_array_equal(shown.values, [[1, 5], [9, 13], [17, 21]])
  assert shown.labels.columns == ["w to x", "y to z"]
  assert shown.is_binned
  assert shown.values.sum() == values.sum()
  assert not heat_map.binned(values, _labels(list("abc"), list("wxyz"))).is_binned


def test_shades_tell_nothing_from_little():
  shown = heat_map.Binned(
    np.array([[0.0, 1.0, 1000.0]]), _labels(["a"], list("xyz")), False
  )
  cells = [e for e in _tree(heat_map.draw("t", "d", shown)).iter() if e.get("data-c")]
  assert [(e.get("class"), e.get("data-v")) for e in cells] == [
    ("q0", "0"),
    ("q1", "1"),
    ("q8", "1,000"),
  ]
  by_row = heat_map.Binned(
    np.array([[3.0, 1.0], [0.0, 9.0]]), _labels(list("ab"), list("xy")), False
  )
  cells = [
    e
    for e in _tree(heat_map.draw("t", "d", by_row, by_row=True)).iter()
    if e.get("data-c")
  ]
  assert [e.get("class") for e in cells] == ["q6", "q2", "q0", "q8"]


def test_hostile_names_stay_text():
  shown = heat_map.Binned(np.ones([1, 1]), _labels([_HOSTILE], [_HOSTILE]), False)
  pictures = [
    heat_map.draw(_HOSTILE, _HOSTILE, shown),
    bar_chart.bars(
      _HOSTILE, _HOSTILE, [bar_chart.Bar(_HOSTILE, 1, _HOSTILE, _HOSTILE)], str
    ),
    _lines([line_chart.Series(_HOSTILE, ((0, 1.0),), 0)], tips=[(0.0, _HOSTILE)]),
    svg.element("text", _HOSTILE, data_tip=_HOSTILE),
  ]
  for picture in pictures:
    assert "<img" not in picture
    assert "</script" not in picture
    assert {e.tag for e in _tree(picture).iter()} <= {
      "svg",
      "g",
      "path",
      "rect",
      "text",
    }


def _pixels(content):
  """Reads a PNG of four bits a point: palette places, and opacity of each."""
  chunks, place = {}, 8
  while place < len(content):
    size, kind = struct.unpack(">I4s", content[place : place + 8])
    chunks[kind] = content[place + 8 : place + 8 + size]
    assert (
      zlib.crc32(kind + chunks[kind])
      == struct.unpack(">I", content[place + 8 + size : place + 12 + size])[0]
    )
    place += 12 + size
  width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
  rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)[
    :, 1:
  ]
  points = np.stack([rows >> 4, rows & 15], axis=2).reshape(height, -1)[:, :width]
  return points, list(chunks[b"tRNS"])


def test_a_mask_is_a_picture_by_hand():
  points, opacity = _pixels(
    mask_picture.png(np.array([[0.0, 1.0, 0.5], [0.001, 0.0, 1.0]]))
  )
  np.testing.assert_array_equal(points, [[0, 15, 8], [1, 0, 15]])
  assert (opacity[0], opacity[15]) == (0, 255)


def test_kernels_lie_where_inputs_and_outputs_cross():
  mask = np.zeros([2, 2, 3, 4], bool)
  # The kernel from input 1 to output 2: its lower left weight.
  mask[1, 0, 1, 2] = True
  tiles = mask_picture.as_tiles(mask)
  assert tiles.shape == (6, 8)
  assert np.argwhere(tiles).tolist() == [[3, 4]]
  assert mask_picture.as_tiles(np.ones([5, 2], bool)).shape == (5, 2)
  assert mask_picture.as_tiles(np.ones([7], bool)).shape == (1, 7)


def test_shares_of_large_masks():
  matrix = np.zeros([4, 4], bool)
  matrix[:2, :2] = True
  np.testing.assert_array_equal(mask_picture.shares(matrix, 2), [[1, 0], [0, 0]])
  uneven = mask_picture.shares(np.ones([7, 3], bool), 2)
  np.testing.assert_array_equal(uneven, np.ones([2, 2]))


def test_csv_holds_everything_and_no_formula():
  rows = tuple((f"=cmd{n}", n) for n in range(500))
  table = Table("t", ("a", "b"), rows, "name")
  assert len(table.shown_rows) == 200
  assert table.left_out == 300
  assert "%0A%27=cmd499,499%0A" in table.link
  assert "\n" not in table.link
