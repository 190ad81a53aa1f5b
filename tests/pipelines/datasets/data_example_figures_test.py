"""Examples are drawn as what they are: images, signals, values."""

import dataclasses

import numpy as np
import pytest

from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.signal_extraction import LogMel
from pipelines.datasets import data_example_figures
from tests.fedtiny_tff.support import dataset_info


def _samples(shape, counts=(2, 1, 0), kind=np.float32):
  generator = np.random.default_rng(0)
  return [generator.uniform(0, 9, (count, *shape)).astype(kind) for count in counts]


def _visible(figure):
  """Returns what shows an example, by row and column of a grid of three columns."""
  shown = [axes.axison for axes in figure.axes]
  return np.array(shown).reshape(-1, 3).tolist()


def _pixels(image):
  pixels = image.get_array()
  assert pixels is not None
  return pixels


def test_images():
  info = dataset_info((4, 5, 3), preprocessing=Preprocessing(1 / 8, (0.0,), (1.0,)))
  samples = _samples((4, 5, 3), kind=np.uint8)
  figure = data_example_figures.draw(info, samples)
  assert _visible(figure) == [[True, True, False], [True, False, False]]
  (image,) = figure.axes[0].get_images()
  np.testing.assert_allclose(_pixels(image), np.clip(samples[0][0] / 8, 0, 1))
  titles = [axes.get_title() for axes in figure.axes[:3]]
  assert titles == ["a", "b", "c: none"]


def test_grey_images_of_floats_span_all_shades():
  samples = _samples((4, 4, 1))
  figure = data_example_figures.draw(dataset_info((4, 4, 1), "float32"), samples)
  shown = [_pixels(axes.get_images()[0]) for axes in figure.axes if axes.axison]
  assert {each.shape for each in shown} == {(4, 4)}
  assert min(each.min() for each in shown) == 0.0
  assert max(each.max() for each in shown) == 1.0


@pytest.mark.parametrize("shape", [(16, 2), (16, 1, 2), (1, 16, 2)])
def test_windows_are_a_line_a_channel(shape):
  samples = _samples(shape)
  figure = data_example_figures.draw(dataset_info(shape, "float32"), samples)
  lines = figure.axes[0].get_lines()
  assert len(lines) == 2
  values = samples[0][0].reshape(16, 2)
  np.testing.assert_array_equal(lines[1].get_ydata(), values[:, 1])
  (legend,) = figure.legends
  assert [text.get_text() for text in legend.get_texts()] == ["0", "1"]


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 1, 1)])
def test_single_signals_are_one_line(shape):
  samples = _samples(shape)
  figure = data_example_figures.draw(dataset_info(shape, "float32"), samples)
  (line,) = figure.axes[0].get_lines()
  np.testing.assert_array_equal(line.get_ydata(), samples[0][0].reshape(-1))
  assert not figure.legends


def test_few_values_are_bars():
  samples = _samples((5,))
  figure = data_example_figures.draw(dataset_info((5,), "float32"), samples)
  heights = [bar.get_height() for bar in figure.axes[0].containers[0]]
  np.testing.assert_array_equal(heights, samples[0][0])


@pytest.mark.parametrize("shape", [(20, 9), (20, 1, 9)])
def test_windows_of_many_channels_are_maps(shape):
  samples = _samples(shape)
  figure = data_example_figures.draw(dataset_info(shape, "float32"), samples)
  (image,) = figure.axes[0].get_images()
  np.testing.assert_array_equal(_pixels(image), samples[0][0].reshape(20, 9).T)


def test_spectrograms_are_maps_over_time():
  extraction = LogMel(
    samples=800, sample_rate_hz=1000, window_samples=100, hop_samples=100,
    mel_bins=6, upper_hz=500.0,
  )  # fmt: skip
  how = dataclasses.replace(Preprocessing(1.0, (0.0,), (1.0,)), extraction=extraction)
  info = dataset_info((8, 6, 1), "float32", how)
  samples = _samples((8, 6, 1))
  figure = data_example_figures.draw(info, samples)
  (image,) = figure.axes[0].get_images()
  np.testing.assert_array_equal(_pixels(image), samples[0][0][..., 0].T)


@pytest.mark.parametrize("shape", [(), (1,), (3, 3, 2), (2, 2, 2, 2), (2, 1)])
def test_any_other_shape_is_drawn_too(shape):
  figure = data_example_figures.draw(dataset_info(shape, "float32"), _samples(shape))
  assert figure.axes[0].has_data()


def test_more_classes_than_are_drawn():
  info = dataclasses.replace(
    dataset_info((2,), "float32"), class_names=tuple(map(str, range(120)))
  )
  figure = data_example_figures.draw(info, _samples((2,), [1] * 7))
  assert "the first 7 of 120 classes" in figure.get_suptitle()
  assert sum(axes.axison for axes in figure.axes) == 7


def test_no_example_at_all():
  figure = data_example_figures.draw(dataset_info((2, 2, 1)), _samples((2, 2, 1), (0,)))
  assert not any(axes.axison for axes in figure.axes)


@pytest.mark.parametrize(
  ("name", "shown"),
  [
    ("walk", "walk"),
    ("$x$", r"\$x\$"),
    ("a\nb", r"a\nb"),
    ("14 characters.", "14 characters."),
    ("fifteen letters", "fifteen…etters"),
  ],
)
def test_labels(name, shown):
  assert data_example_figures.label(name) == shown


@pytest.mark.parametrize(
  ("name", "shown"),
  [
    ("café", "café"),
    ("$x$", r"\$x\$"),
    ("\u72d7", "U+72D7"),
    ("\u72d7\u732b", "U+72D7 U+732B"),
    ("a long name of things", "a long …things"),
  ],
)
def test_names_can_be_told_apart_in_pictures(name, shown):
  assert data_example_figures.label(name) == shown
