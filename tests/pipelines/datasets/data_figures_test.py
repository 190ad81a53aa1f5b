"""Pictures hold the numbers they are drawn from, and are the same every time."""

import dataclasses

import numpy as np
import pytest

from fedtiny_tff.data import federation, scan
from pipelines.datasets import data_figures
from pipelines.datasets.data_clients import Assigned
from tests.pipelines.datasets import inspected_data

PNG = b"\x89PNG\r\n\x1a\n"
NAMES = {
  "label_by_client_heatmap", "label_by_client_bars", "client_sizes", "examples",
}  # fmt: skip
SAMPLES = [np.array([[0, 0], [2, 4]], np.uint8), np.array([[8, 2]], np.uint8)]


def _assigned(counts, names=None):
  """Returns data of which each client trains on as many of each class as given."""
  counts = np.array(counts)
  labels = np.concatenate([np.repeat(np.arange(len(row)), row) for row in counts])
  ends = np.cumsum(counts.sum(axis=1))
  parts = tuple(np.split(np.arange(len(labels)), ends[:-1]))
  # One of each is held out.
  assigned = federation.Federation(
    np.zeros(0, np.int64),
    tuple(part[1:] for part in parts),
    tuple(part[:1] for part in parts),
    np.arange(len(parts)),
  )
  contents = np.arange(len(labels), dtype=np.uint64)
  facts = scan.SplitFacts(labels, contents, None)
  found = scan.Scan(facts, facts, (), np.zeros(1), np.ones(1))
  classes = tuple(f"class {number}" for number in range(counts.shape[1]))
  info = dataclasses.replace(inspected_data.INFO, class_names=classes)
  names = names or tuple(f"c{number}" for number in range(len(counts)))
  return Assigned(info, found, assigned, "iid", names)


def _draw(what):
  return data_figures.draw(what, SAMPLES[:1])


def test_all_pictures_are_written_and_the_same_every_time(tmp_path):
  what = _assigned([[3, 0], [1, 2]], ("$x$", "a\nvery long name of a client"))
  first = data_figures.write(tmp_path / "first", what, SAMPLES)
  again = data_figures.write(tmp_path / "again", what, SAMPLES)
  assert {path.stem for path in first} == NAMES
  assert {path.name for path in (tmp_path / "first").iterdir()} == {
    f"{name}.png" for name in NAMES
  }
  for one, other in zip(first, again, strict=True):
    assert one.read_bytes().startswith(PNG)
    assert one.read_bytes() == other.read_bytes()
  others = data_figures.write(tmp_path / "other", _assigned([[3, 0], [1, 3]]), SAMPLES)
  assert others[0].read_bytes() != first[0].read_bytes()


def test_names_that_the_font_lacks_are_nothing_to_warn_of(tmp_path, recwarn):
  data_figures.write(tmp_path, _assigned([[2, 1]], ("歩く",)), SAMPLES)
  assert not recwarn.list


class TestHeatMap:
  def test_fields(self):
    counts = [[3, 0, 5], [1, 2, 90]]
    axes, _ = _draw(_assigned(counts))["label_by_client_heatmap"].axes
    (image,) = axes.get_images()
    shown = image.get_array()
    assert shown.filled(0).T.tolist() == counts
    assert shown.mask.T.tolist() == [[False, True, False], [False] * 3]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["3", "1", "", "2", "5", "90"]
    assert [each.get_text() for each in axes.get_yticklabels()] == [
      "class 0", "class 1", "class 2",
    ]  # fmt: skip
    assert "of" not in axes.get_title()

  def test_of_many_classes_the_most_frequent(self):
    counts = np.ones((2, 70), int)
    counts[:, 5] = 0
    counts[:, 65:] = 2
    axes, _ = _draw(_assigned(counts))["label_by_client_heatmap"].axes
    labels = [each.get_text() for each in axes.get_yticklabels()]
    assert len(labels) == 60
    assert "class 5" not in labels
    assert labels[-1] == "class 69"
    assert "the 60 most frequent of 70 classes" in axes.get_title()


class TestBars:
  def _heights(self, counts):
    (axes,) = _draw(_assigned(counts))["label_by_client_bars"].axes
    heights = [[bar.get_height() for bar in each] for each in axes.containers]
    return axes, np.array(heights).T

  def test_heights(self):
    counts = [[3, 0, 5], [1, 2, 4]]
    axes, heights = self._heights(counts)
    assert heights.tolist() == counts
    assert axes.get_ylabel() == "examples"
    _, labels = axes.get_legend_handles_labels()
    assert labels == ["class 0", "class 1", "class 2"]

  def test_shares_where_sizes_differ_much(self):
    axes, heights = self._heights([[1, 1], [30, 90]])
    np.testing.assert_allclose(heights, [[50, 50], [25, 75]])
    assert "share" in axes.get_ylabel()

  def test_looks_are_all_different(self):
    (axes,) = _draw(_assigned([[1] * 24]))["label_by_client_bars"].axes
    looks = {(each[0].get_facecolor(), each[0].get_hatch()) for each in axes.containers}
    assert len(looks) == len(axes.containers) == 24

  def test_what_has_no_look_of_its_own_is_one(self):
    counts = np.full((1, 30), 2)
    counts[0, 3:10] = 1
    axes, heights = self._heights(counts)
    _, labels = axes.get_legend_handles_labels()
    assert len(labels) == 24
    assert labels[-1] == "7 others"
    assert heights[0, -1] == 7


class TestManyClients:
  @pytest.fixture(name="what", scope="class")
  def fixture_what(self):
    return _assigned([[(7 * client) % 100 + 1] for client in range(100)])

  def test_sizes_of_all_kinds_are_chosen(self):
    sizes = np.random.default_rng(0).permutation(np.arange(1, 601))
    drawn = data_figures.drawn_clients(sizes)
    assert len(drawn) == len(set(drawn.tolist())) == 60
    chosen = sizes[drawn]
    assert chosen.tolist() == sorted(chosen.tolist())
    assert (chosen[0], chosen[-1]) == (1, 600)
    assert np.diff(chosen).max() <= 11

  def test_few_are_all_chosen(self):
    assert data_figures.drawn_clients(np.array([9, 1, 5])).tolist() == [0, 1, 2]

  def test_titles_say_so(self, what):
    figures = _draw(what)
    for name in ("label_by_client_heatmap", "label_by_client_bars"):
      assert "60 of 100 clients" in figures[name].axes[0].get_title()

  def test_sizes_become_a_curve_from_the_largest_down(self, what):
    (axes,) = _draw(what)["client_sizes"].axes
    curve = axes.get_lines()[0].get_xydata()
    assert curve.tolist() == [[rank, 101 - rank] for rank in range(1, 101)]


def test_sizes_of_few_clients_are_bars():
  (axes,) = _draw(_assigned([[3], [5], [4]]))["client_sizes"].axes
  training, held_out = axes.containers
  assert [bar.get_height() for bar in training] == [4, 3, 2]
  assert [bar.get_height() for bar in held_out] == [1, 1, 1]
  assert [each.get_text() for each in axes.get_xticklabels()] == ["c1", "c2", "c0"]
  (median,) = axes.get_lines()
  assert median.get_ydata()[0] == 4
