"""`preprocessing.tflite` computes in LiteRT what TensorFlow fed training with."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data.extraction import declare
from fedtiny_tff.data.extraction_base import Resize
from fedtiny_tff.data.preprocessing import Preprocessing, apply_raw
from tests.tflite_export import models
from tflite_export.android import signal_file
from tflite_export.artifacts import VerificationError
from tflite_export.file_format import flatbuffer_model
from tflite_export.runtimes import litert

_SAMPLES = 1600


# With the operations of "log_mel", and one more.
_DECLARED = Preprocessing(0.5, (-2.0,), (1.5,), declare("mfcc", [_SAMPLES], 8000))


@pytest.fixture(name="content", scope="module")
def fixture_content():
  return signal_file.signal_file(_DECLARED)


def _signals():
  """A chirp, a click, and noise so soft that the logarithm's offset matters."""
  times = np.arange(_SAMPLES) / 8000
  click = np.zeros(_SAMPLES)
  click[700] = 1.0
  noise = 1e-4 * np.random.default_rng(0).normal(size=_SAMPLES)
  chirp = 0.5 * np.sin(2 * np.pi * (300 + 2000 * times) * times)
  return np.stack([chirp + noise, click, noise]).astype(np.float32)


def test_equals_tensorflow(content):
  raw = _signals()
  wanted = apply_raw(_DECLARED, tf.constant(raw)).numpy()
  made = litert.run(content, raw)
  assert made.shape == (3, *_DECLARED.extraction.output_shape([_SAMPLES]))
  # Beside a loud tone, Fourier transforms in float32 differ most.
  np.testing.assert_allclose(made, wanted, rtol=0, atol=3e-3)
  # Inputs differ from signal to signal by far more than that.
  assert np.abs(made[0] - made[2]).max() > 1.0


def test_only_builtin_operators(content):
  model = flatbuffer_model.read_model(content)
  assert all(code.customCode is None for code in model.operatorCodes)
  (signature,) = model.signatureDefs
  assert [each.name for each in signature.inputs] == [b"signal"]


def test_same_bytes_each_time(content):
  assert signal_file.signal_file(_DECLARED) == content


def test_a_file_of_other_numbers_is_refused(content):
  other = dataclasses.replace(_DECLARED, mean=(-2.1,))
  signal_file.check(content, _DECLARED, _signals())
  with pytest.raises(VerificationError, match=r"preprocessing\.tflite: inputs differ"):
    signal_file.check(content, other, _signals())
  with pytest.raises(VerificationError, match=r"^preprocessing\.tflite: "):
    signal_file.check(models.converted("fp32_dense"), _DECLARED, _signals())


@pytest.mark.parametrize("how", [None, Resize(4, 4)])
def test_others_need_no_file(how):
  plain = Preprocessing(1.0, (0.0,), (1.0,))
  declared = plain if how is None else dataclasses.replace(plain, extraction=how)
  assert signal_file.signal_file(declared) is None
