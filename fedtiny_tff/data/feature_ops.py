"""TensorFlow operations that make features of raw examples.

Those on signals have static shapes and convert to LiteRT's builtin operators; resizing
with antialias has no such operator.
"""

import numpy as np
import tensorflow as tf

# ITU-R BT.601's weights of red, green and blue, in thousandths. Integers keep what is
# grey already exactly as it is.
LUMA_THOUSANDTHS = (299, 587, 114)


def greyed(images: tf.Tensor) -> tf.Tensor:
  """Makes grey images of colours.

  Args:
    images: uint8 [..., 3].

  Returns:
    uint8 [..., 1]: (299 red + 587 green + 114 blue + 500) / 1000, rounded down.
  """
  weighted = tf.cast(images, tf.int32) * tf.constant(LUMA_THOUSANDTHS, tf.int32)
  total = tf.reduce_sum(weighted, axis=-1, keepdims=True)
  return tf.cast((total + 500) // 1000, tf.uint8)


def resized(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
  """Resizes bilinearly, with antialias where images become smaller.

  Args:
    images: uint8 [n, any height, any width, channels].
    height: Height to make.
    width: Width to make.

  Returns:
    uint8 [n, height, width, channels]; halves are rounded to even numbers.
  """
  smooth = tf.image.resize(images, [height, width], antialias=True)
  return tf.cast(tf.round(smooth), tf.uint8)


def log_mel(
  signals: tf.Tensor,
  *,
  window_samples: int,
  hop_samples: int,
  fft_samples: int,
  sample_rate_hz: int,
  mel_bins: int,
  lower_hz: float,
  upper_hz: float,
  log_offset: float,
) -> tf.Tensor:
  """Computes log-mel spectrograms, as in https://www.tensorflow.org/api_docs/python/tf/signal.

  Args:
    signals: float32 [n, samples].
    window_samples: Length of the periodic Hann window.
    hop_samples: From one window's start to the next one's.
    fft_samples: Length of the Fourier transform, a power of two.
    sample_rate_hz: Samples a second.
    mel_bins: Triangular filters, evenly spaced on the HTK mel scale.
    lower_hz: Where the first one starts.
    upper_hz: Where the last one ends.
    log_offset: Added before the natural logarithm.

  Returns:
    float32 [n, frames, mel_bins].
  """
  spectrum = tf.abs(
    tf.signal.stft(signals, window_samples, hop_samples, fft_samples, _periodic_hann)
  )
  filters = tf.signal.linear_to_mel_weight_matrix(
    mel_bins, fft_samples // 2 + 1, sample_rate_hz, lower_hz, upper_hz
  )
  return tf.math.log(tf.matmul(spectrum, filters) + log_offset)


def _periodic_hann(length: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
  """Returns the window 0.5 - 0.5 cos(2 pi i / length).

  `tf.signal.hann_window` divides by `length - 1` where that is even.
  """
  places = tf.cast(tf.range(length), dtype)
  angles = tf.constant(2 * np.pi, dtype) * places / tf.cast(length, dtype)
  return 0.5 - 0.5 * tf.cos(angles)


def cepstrum(log_mel_: tf.Tensor, coefficients: int) -> tf.Tensor:
  """Computes the first cepstral coefficients (MFCC) of log-mel spectrograms.

  These are `tf.signal.mfccs_from_log_mel_spectrograms`, a DCT-II times
  sqrt(2 / bins), but computed with a matrix: LiteRT transforms powers of two only.

  Args:
    log_mel_: float32 [n, frames, bins].
    coefficients: How many, at most `bins`.

  Returns:
    float32 [n, frames, coefficients].
  """
  bins = int(log_mel_.shape[-1])
  places = (np.arange(bins)[:, np.newaxis] + 0.5) * np.arange(coefficients)
  matrix = np.cos(np.pi / bins * places) * np.sqrt(2.0 / bins)
  return tf.matmul(log_mel_, tf.constant(matrix, tf.float32))


def normalised(
  features: tf.Tensor,
  scale: float,
  mean: tuple[float, ...],
  deviation: tuple[float, ...],
) -> tf.Tensor:
  """Returns (features * scale - mean) / deviation.

  Args:
    features: [..., channels], of any number type.
    scale: Factor.
    mean: One, or one per channel.
    deviation: Likewise.

  Returns:
    float32 [..., channels].
  """
  scaled = tf.cast(features, tf.float32) * tf.constant(scale, tf.float32)
  shifted = scaled - tf.constant(mean, tf.float32)
  return shifted / tf.constant(deviation, tf.float32)
