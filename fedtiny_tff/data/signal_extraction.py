"""Extractions from signals over time: log-mel spectrograms and MFCC."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Optional

from fedtiny_tff.data.extraction_base import Extraction, check_whole
from fedtiny_tff.errors import InputError

if TYPE_CHECKING:  # TensorFlow takes seconds to import and command lines read this.
  import tensorflow as tf

_MOST_SAMPLES = 1 << 24
_MOST_WINDOW_SAMPLES = 1 << 16
_MOST_BINS = 1 << 10
# Below the noise of 16-bit audio, and above the rounding of float32 transforms, by
# which runtimes differ.
_LOG_OFFSET = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogMel(Extraction):
  """A signal of fixed length becomes a log-mel spectrogram [frames, bins, 1].

  Attributes:
    samples: Length of a signal, floats in [-1, 1].
    sample_rate_hz: Samples a second.
    window_samples: Length of the Hann window.
    hop_samples: From one window's start to the next one's.
    mel_bins: Mel filters.
    lower_hz: Where the first filter starts.
    upper_hz: Where the last one ends, at most half the sample rate.
    log_offset: Added before the natural logarithm.
  """

  kind: ClassVar[str] = "log_mel"

  samples: int
  sample_rate_hz: int
  window_samples: int
  hop_samples: int
  mel_bins: int = 40
  lower_hz: float = 20.0
  upper_hz: float
  log_offset: float = _LOG_OFFSET

  def __post_init__(self) -> None:
    """Refuses windows and bins that do not fit together with an InputError."""
    for name, least, most in (
      ("samples", 2, _MOST_SAMPLES),
      ("sample_rate_hz", 1, _MOST_SAMPLES),
      ("window_samples", 2, _MOST_WINDOW_SAMPLES),
      ("hop_samples", 1, _MOST_SAMPLES),
      ("mel_bins", 1, _MOST_BINS),
    ):
      check_whole(self.kind, name, getattr(self, name), least, most)
    if self.window_samples > self.samples:
      raise InputError(
        f"{self.kind}: a window of {self.window_samples:,} samples is longer than the "
        f"signal, {self.samples:,}; give longer signals, or the right sample rate"
      )
    if not 0.0 <= self.lower_hz < self.upper_hz <= self.sample_rate_hz / 2:
      raise InputError(
        f"{self.kind}: must be 0 <= lower_hz < upper_hz <= {self.sample_rate_hz / 2:g}, "
        f"half the sample rate, got {self.lower_hz!r} and {self.upper_hz!r}"
      )
    # As float32, in which it is added.
    if not 1e-30 <= self.log_offset <= 1.0:
      raise InputError(
        f"{self.kind}: log_offset must be from 1e-30 to 1, got {self.log_offset!r}"
      )

  @property
  def raw_shape(self) -> Optional[tuple[int, ...]]:
    """Shape of a signal."""
    return (self.samples,)

  @property
  def of_signal(self) -> bool:
    """It does."""
    return True

  @property
  def fft_samples(self) -> int:
    """Length of the Fourier transform: the power of two that holds a window."""
    return 1 << (self.window_samples - 1).bit_length()

  @property
  def frames(self) -> int:
    """Number of whole windows in a signal."""
    return 1 + (self.samples - self.window_samples) // self.hop_samples

  def output_shape(self, raw_shape: Sequence[int]) -> tuple[int, ...]:
    """Returns [frames, bins, 1]; see the base."""
    if tuple(raw_shape) != self.raw_shape:
      raise InputError(
        f"{self.kind} is declared for signals of shape [{self.samples}], got "
        f"{list(raw_shape)}; cut or pad them to one length"
      )
    return (self.frames, self.mel_bins, 1)

  def apply(self, raw: "tf.Tensor") -> "tf.Tensor":
    """Makes float32 [n, frames, bins, 1] of float32 [n, samples]; see the base."""
    return self._spectrogram(raw)[..., None]

  def _spectrogram(self, raw: "tf.Tensor") -> "tf.Tensor":
    from fedtiny_tff.data import feature_ops  # noqa: PLC0415 - imports TensorFlow

    LogMel.output_shape(self, raw.shape[1:])
    if raw.dtype != "float32":
      raise InputError(
        f"{self.kind} takes float32 signals in [-1, 1], got {raw.dtype.name}; divide "
        "whole numbers by their largest, 32768 for int16"
      )
    return feature_ops.log_mel(
      raw,
      window_samples=self.window_samples,
      hop_samples=self.hop_samples,
      fft_samples=self.fft_samples,
      sample_rate_hz=self.sample_rate_hz,
      mel_bins=self.mel_bins,
      lower_hz=self.lower_hz,
      upper_hz=self.upper_hz,
      log_offset=self.log_offset,
    )

  def in_words(self) -> str:
    """See the base."""
    return (
      f"log-mel spectrogram of {self.samples} samples in [-1, 1] at "
      f"{self.sample_rate_hz} Hz: {self.frames} periodic Hann windows of "
      f"{self.window_samples} samples, {self.hop_samples} apart; magnitude of the "
      f"{self.fft_samples}-point FFT; {self.mel_bins} triangular filters from "
      f"{self.lower_hz:g} to {self.upper_hz:g} Hz (tf.signal."
      f"linear_to_mel_weight_matrix); natural logarithm of that plus "
      f"{self.log_offset:g}"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mfcc(LogMel):
  """A signal of fixed length becomes cepstral coefficients [frames, coefficients, 1].

  Attributes:
    coefficients: The first ones of each frame, from the zeroth.
  """

  kind: ClassVar[str] = "mfcc"

  coefficients: int = 10

  def __post_init__(self) -> None:
    """Refuses, also, more coefficients than bins."""
    super().__post_init__()
    check_whole(self.kind, "coefficients", self.coefficients, 1, self.mel_bins)

  def output_shape(self, raw_shape: Sequence[int]) -> tuple[int, ...]:
    """Returns [frames, coefficients, 1]; see the base."""
    return (super().output_shape(raw_shape)[0], self.coefficients, 1)

  def apply(self, raw: "tf.Tensor") -> "tf.Tensor":
    """Makes float32 [n, frames, coefficients, 1]; see the base."""
    from fedtiny_tff.data import feature_ops  # noqa: PLC0415 - imports TensorFlow

    spectrogram = self._spectrogram(raw)
    return feature_ops.cepstrum(spectrogram, self.coefficients)[..., None]

  def in_words(self) -> str:
    """See the base."""
    return (
      f"{super().in_words()}; of its DCT-II times sqrt(2 / {self.mel_bins}) the first "
      f"{self.coefficients} coefficients"
    )
