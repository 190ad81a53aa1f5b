"""Extractions compute what they declare, and refuse what they cannot."""

import json
from typing import Any

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from fedtiny_tff.data import extraction
from fedtiny_tff.data.extraction import EXTRACTIONS
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.signal_extraction import LogMel, Mfcc
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support

_SMALL: dict[str, Any] = {
  "samples": 40, "sample_rate_hz": 400, "window_samples": 12, "hop_samples": 8,
  "mel_bins": 5, "upper_hz": 200.0,
}  # fmt: skip


def _signals(count, samples):
  generator = np.random.default_rng(1)
  return (0.1 * generator.normal(size=(count, samples))).astype(np.float32)


def _by_hand(signal, how):
  """A log-mel spectrogram with NumPy's FFT and filters written out."""
  places = np.arange(how.window_samples)
  window = 0.5 - 0.5 * np.cos(2 * np.pi * places / how.window_samples)
  starts = np.arange(how.frames) * how.hop_samples
  framed = np.stack([signal[s : s + how.window_samples] for s in starts])
  spectrum = np.abs(np.fft.rfft(framed * window, how.fft_samples))

  def mel(hertz):
    return 1127 * np.log(1 + np.asarray(hertz) / 700)

  edges = np.linspace(mel(how.lower_hz), mel(how.upper_hz), how.mel_bins + 2)
  found = mel(np.arange(spectrum.shape[1]) * how.sample_rate_hz / how.fft_samples)
  filters = np.stack(
    [
      np.maximum(0, np.minimum((found - a) / (b - a), (c - found) / (c - b)))
      for a, b, c in zip(edges, edges[1:], edges[2:], strict=False)
    ],
    axis=1,
  )
  filters[0] = 0  # The mean of a signal belongs to no band.
  return np.log(spectrum @ filters + how.log_offset)


class TestResize:
  def test_halves_are_averages_rounded_to_even(self):
    # Twice as small: the triangle has radius 2, its weights are 1, 3, 3, 1 of eight;
    # at a border the outermost is missing: 3, 3, 1 of seven.
    row = np.array([0, 7, 14, 0], np.uint8)
    image = row.reshape(1, 1, 4, 1)
    made = extraction.extract_batch(Resize(1, 2), image)
    # (0 · 3 + 7 · 3 + 14) / 7 = 5 and (7 + 14 · 3 + 0) / 7 = 7.
    assert made.dtype == np.uint8
    assert made.tolist() == [[[[5], [7]]]]

  def test_its_own_size_changes_nothing(self):
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3)).astype(np.uint8)
    made = extraction.extract_batch(Resize(3, 4), image)
    np.testing.assert_array_equal(made, image)
    other = extraction.extract_batch(Resize(3, 3), image)
    assert (other != image[:, :, :3]).any()

  def test_grey_is_made_first_by_hand(self):
    image = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)[np.newaxis]
    # 76 and 150; of one pixel's width their mean is 113.
    assert extraction.extract_batch(Resize(1, 2, grey=True), image).tolist() == [
      [[[76], [150]]]
    ]
    assert extraction.extract_batch(Resize(1, 1, grey=True), image).tolist() == [
      [[[113]]]
    ]
    assert Resize(1, 1, grey=True).output_shape((5, 6, 3)) == (1, 1, 1)
    assert "299 red + 587 green + 114 blue" in Resize(1, 1, grey=True).in_words()
    assert "red" not in Resize(1, 1).in_words()

  def test_only_colours_can_be_made_grey(self):
    with pytest.raises(InputError, match="got images of 1 channels, not 3"):
      Resize(2, 2, grey=True).output_shape((4, 4, 1))

  @pytest.mark.parametrize("shape", [(4,), (2, 2, 0), (1, 2, 2, 1)])
  def test_others_are_no_images(self, shape):
    with pytest.raises(InputError, match=r"takes images \[height, width, channels\]"):
      Resize(2, 2).output_shape(shape)

  def test_floats_are_no_images(self):
    with pytest.raises(InputError, match="takes uint8 images, got float32"):
      Resize(2, 2).apply(tf.zeros([1, 4, 4, 1]))


class TestLogMel:
  def test_is_what_the_definition_says(self):
    how = LogMel(**_SMALL)
    # 1 + (40 - 12) // 8 windows, in transforms of 16.
    assert how.output_shape((40,)) == (4, 5, 1)
    assert how.fft_samples == 16
    signals = _signals(2, 40)
    made = extraction.extract_batch(how, signals)
    assert made.dtype == np.float32
    assert made.shape == (2, 4, 5, 1)
    wanted = [_by_hand(signal, how) for signal in signals]
    np.testing.assert_allclose(made[..., 0], wanted, rtol=1e-4, atol=1e-4)
    later = np.roll(signals, 1, axis=1)
    assert np.abs(extraction.extract_batch(how, later) - made).max() > 0.01

  @pytest.mark.parametrize("window_samples", [3, 11, 13])
  def test_windows_of_odd_lengths_are_periodic_too(self, window_samples):
    how = LogMel(**{**_SMALL, "window_samples": window_samples, "lower_hz": 1.0})
    signals = _signals(2, 40)
    made = extraction.extract_batch(how, signals)
    wanted = [_by_hand(signal, how) for signal in signals]
    np.testing.assert_allclose(made[..., 0], wanted, rtol=1e-4, atol=1e-4)

  def test_silence_is_the_offset(self):
    made = extraction.extract_batch(LogMel(**_SMALL), np.zeros((1, 40), np.float32))
    np.testing.assert_allclose(made, np.log(1e-4), rtol=1e-6)

  def test_an_examples_features_do_not_depend_on_its_batch(self):
    how = extraction.declare("log_mel", [1600])
    signals = _signals(70, 1600)
    whole = extraction.extract_batch(how, signals)
    assert len(whole) == 70
    for part in (slice(0, 1), slice(3, 6), slice(62, 70)):
      single = extraction.extract_batch(how, signals[part])
      np.testing.assert_array_equal(single, whole[part])

  def test_an_empty_batch_has_a_shape(self):
    made = extraction.extract_batch(LogMel(**_SMALL), np.zeros((0, 40), np.float32))
    assert made.shape == (0, 4, 5, 1)

  @pytest.mark.parametrize(
    ("raw", "told"),
    [
      (np.zeros((1, 39), np.float32), r"shape \[40\], got \[39\]"),
      (np.zeros((1, 40, 1), np.float32), r"got \[40, 1\]"),
      (np.zeros((1, 40), np.int16), "32768 for int16"),
    ],
  )
  @pytest.mark.parametrize("made", [LogMel, Mfcc])
  def test_other_signals_are_refused(self, made, raw, told):
    how = made(**_SMALL) if made is LogMel else made(**_SMALL, coefficients=3)
    with pytest.raises(InputError, match=told):
      extraction.extract_batch(how, raw)

  @pytest.mark.parametrize(
    ("changes", "told"),
    [
      ({"window_samples": 41}, "window of 41 samples is longer than the signal, 40"),
      ({"hop_samples": 0}, "hop_samples must be a whole number from 1"),
      ({"upper_hz": 201.0}, "upper_hz <= 200"),
      ({"lower_hz": 200.0}, "lower_hz < upper_hz"),
      ({"lower_hz": float("nan")}, "lower_hz"),
      ({"log_offset": 0.0}, "log_offset"),
      ({"mel_bins": True}, "mel_bins"),
      ({"samples": 10**40}, "samples"),
    ],
  )
  def test_what_cannot_be_meant_is_refused(self, changes, told):
    with pytest.raises(InputError, match=told):
      LogMel(**_SMALL | changes)


class TestMfcc:
  def test_is_tensorflows_own(self):
    how = Mfcc(**_SMALL, coefficients=3)
    signals = _signals(2, 40)
    spectrograms = extraction.extract_batch(LogMel(**_SMALL), signals)[..., 0]
    wanted = tf.signal.mfccs_from_log_mel_spectrograms(spectrograms)[..., :3]
    made = extraction.extract_batch(how, signals)
    assert made.shape == (2, *how.output_shape((40,))) == (2, 4, 3, 1)
    np.testing.assert_allclose(made[..., 0], wanted, rtol=1e-4, atol=1e-4)

  def test_no_more_coefficients_than_bins(self):
    assert Mfcc(**_SMALL, coefficients=5).coefficients == 5
    with pytest.raises(InputError, match=r"coefficients must be .* from 1 to 5, got 6"):
      Mfcc(**_SMALL, coefficients=6)


class TestDeclare:
  def test_a_second_of_speech_is_49_frames(self):
    how = extraction.declare("mfcc", [16_000], 16_000)
    assert isinstance(how, Mfcc)
    assert (how.window_samples, how.hop_samples, how.upper_hz) == (480, 320, 4000.0)
    assert how.output_shape([16_000]) == (49, 10, 1)
    # Half the rate is the highest there is.
    assert extraction.declare("log_mel", [4000], 4000).to_json()["upper_hz"] == 2000.0

  def test_nothing_and_images(self):
    nothing = extraction.declare("none", [3, 4])
    assert nothing == extraction.NO_EXTRACTION
    assert nothing.output_shape([3, 4]) == (3, 4)
    assert extraction.declare("resize", [9, 9, 3], image_size=(4, 5)) == Resize(4, 5)

  @pytest.mark.parametrize(
    ("arguments", "told"),
    [
      (("wavelet", [9]), "one of none, resize, log_mel, mfcc, got 'wavelet'"),
      (("resize", [9, 9, 3]), "needs a height and a width"),
      (("log_mel", [400, 2]), r"shape \[samples\], got \[400, 2\]"),
      (("log_mel", [400], 16_000), "longer than the signal"),
    ],
  )
  def test_what_cannot_be_done_is_refused(self, arguments, told):
    with pytest.raises(InputError, match=told):
      extraction.declare(*arguments)


_DECLARED = (
  extraction.NO_EXTRACTION,
  Resize(3, 4),
  LogMel(**_SMALL),
  Mfcc(**_SMALL, coefficients=2),
)


class TestJson:
  @pytest.mark.parametrize("how", _DECLARED, ids=lambda how: how.kind)
  def test_comes_back(self, how):
    assert extraction.from_json(json.loads(json.dumps(how.to_json()))) == how
    assert how.to_json()["kind"] == how.kind in EXTRACTIONS

  @pytest.mark.parametrize("how", _DECLARED[1:], ids=lambda how: how.kind)
  def test_every_parameter_counts(self, how):
    for name in how.to_json():
      less = {k: v for k, v in how.to_json().items() if k != name}
      with pytest.raises(InputError, match="got None" if name == "kind" else name):
        extraction.from_json(less)
    with pytest.raises(InputError, match="wrong or missing: more"):
      extraction.from_json({**how.to_json(), "more": 1})

  @support.quick
  @hypothesis.given(
    st.sampled_from(_DECLARED[1:]),
    st.data(),
    st.sampled_from(
      [None, True, [], {}, "", "mfcc", float("nan"), float("inf"), 10**40]
    )
    | st.integers(-1, 50)
    | st.floats(-1, 300),
  )
  def test_hostile_values_are_refused_or_kept(self, how, data, value):
    document = how.to_json()
    document[data.draw(st.sampled_from(sorted(document)))] = value
    try:
      made = extraction.from_json(document)
    except InputError as error:
      assert "\n" not in str(error)
    else:
      assert made.to_json() == document
