"""Folders of recordings: lengths, clients, bad records, spectra."""

import numpy as np
import pytest

from fedtiny_tff.data import examples
from fedtiny_tff.data.sources import audio_folder, registry
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources import wave_files


def _open(folder, **options):
  return audio_folder.open_audio_folder(SourceOptions(data_dir=str(folder), **options))


def _read(dataset, split="train"):
  """Returns signals times 32768, labels, clients and what was bad."""
  bad: list[examples.BadRecord] = []
  batches = list(dataset.read(split, bad.append))
  signals = [(row * 32768).tolist() for batch in batches for row in batch.features]
  labels = [int(label) for batch in batches for label in batch.labels]
  clients = [str(c) for b in batches if b.clients is not None for c in b.clients]
  return signals, labels, clients, [str(record) for record in bad]


def test_signals_have_the_length_that_most_have(tmp_path):
  wave_files.write(tmp_path / "no" / "1.wav", [1, 2, 3])
  wave_files.write(tmp_path / "no" / "2.WAV", [4, 5, 6])
  wave_files.write(tmp_path / "yes" / "1.wav", [7, 8, 9, 10])
  wave_files.write(tmp_path / "yes" / "2.wav", [11])
  dataset = _open(tmp_path)
  assert dataset.info.shape == (3,)
  assert dataset.info.feature_type == "float32"
  assert dataset.info.class_names == ("no", "yes")
  assert dataset.measures_inputs
  assert not dataset.has_clients
  assert dataset.notes == (
    "training recordings are brought to 3 samples: 1 of 4 are cut at the end, 1 filled "
    "up with silence (--feature_shape)",
  )
  for _ in range(2):
    assert _read(dataset) == (
      [[1, 2, 3], [4, 5, 6], [7, 8, 9], [11, 0, 0]], [0, 0, 1, 1], [], [],
    )  # fmt: skip


def test_of_lengths_as_common_the_longest_counts(tmp_path):
  for place, length in (("a/1", 2), ("a/2", 5), ("b/1", 3)):
    wave_files.write(tmp_path / f"{place}.wav", range(length))
  assert _open(tmp_path).info.shape == (5,)


def test_recordings_that_are_left_out_make_no_length(tmp_path):
  wave_files.write(tmp_path / "a" / "1.wav", [1, 2])
  wave_files.write(tmp_path / "b" / "1.wav", [3, 4])
  for number in range(2, 6):
    wave_files.write(tmp_path / "b" / f"{number}.wav", [5, 6, 7], rate=8000)
  dataset = _open(tmp_path, test_share=0.01)
  assert dataset.info.shape == (2,)
  assert dataset.notes == ()
  assert _open(tmp_path, test_share=0.01, sample_rate_hz=8000).info.shape == (3,)
  with pytest.raises(
    InputError, match=r"has 16000 .*, not 9; .* none of the . training"
  ):
    _open(tmp_path, sample_rate_hz=9)


def test_a_given_length(tmp_path):
  wave_files.write(tmp_path / "a" / "1.wav", [1, 2])
  wave_files.write(tmp_path / "b" / "1.wav", [3, 4])
  dataset = _open(tmp_path, feature_shape=(2,))
  assert dataset.notes == ()
  assert _read(dataset)[0] == [[1, 2], [3, 4]]
  assert _read(_open(tmp_path, feature_shape=(4,)))[0] == [[1, 2, 0, 0], [3, 4, 0, 0]]
  with pytest.raises(InputError, match="--feature_shape=4,1: recordings have one dim"):
    _open(tmp_path, feature_shape=(4, 1))


def test_speakers_by_folder_or_by_name(tmp_path):
  for speaker in ("ann", "bob"):
    for number, word in enumerate(("no", "yes")):
      folders = tmp_path / "folders" / speaker / word
      wave_files.write(folders / "1.wav", [number])
      name = f"{speaker}_nohash_{number}.wav"
      wave_files.write(tmp_path / "names" / word / name, [number])
  assert _read(_open(tmp_path / "folders"))[1:3] == (
    [0, 1, 0, 1], ["ann", "ann", "bob", "bob"],
  )  # fmt: skip
  assert _read(_open(tmp_path / "names", client_separator="_nohash_"))[1:3] == (
    [0, 0, 1, 1], ["ann", "bob", "ann", "bob"],
  )  # fmt: skip


def test_what_cannot_be_used_is_told_in_its_place(tmp_path):
  wave_files.write(tmp_path / "a" / "1.wav", [1, 2])
  wave_files.write(tmp_path / "b" / "1.wav", [3, 4])
  wave_files.write(tmp_path / "b" / "2.wav", [5, 6], rate=8000)
  wave_files.write(tmp_path / "b" / "3.wav", [5, 6, 7, 8], channels=2)
  (tmp_path / "b" / "4.wav").write_bytes(b"")
  (tmp_path / "b" / "5.mp3").write_bytes(b"")
  signals, _, _, bad = _read(_open(tmp_path))
  assert signals == [[1, 2], [3, 4]]
  assert [record.removeprefix(f"{tmp_path}/b/") for record in bad] == [
    "2.wav: has 8000 samples a second, not 16000; bring all to one rate and name it with "
    "--sample_rate_hz",
    "3.wav: has 2 channels; save it with one (mono)",
    "4.wav: is damaged, or no WAV file of PCM or floats",
    "5.mp3: no recording by its name (.wav, .wave)",
  ]


def test_no_recording_can_be_used(tmp_path):
  for name in ("a", "b"):
    wave_files.write(tmp_path / name / "1.wav", [1, 2], channels=2)
  with pytest.raises(
    InputError, match=r"a/1.wav: has 2 channels.*; none of the 2 train"
  ):
    _open(tmp_path)
  with pytest.raises(InputError, match="needs --data_dir: a folder of class/recording"):
    audio_folder.open_audio_folder(SourceOptions())
  (tmp_path / "none" / "a").mkdir(parents=True)
  with pytest.raises(
    InputError, match=r"no recording \(.wav, .wave\) in folders of cl"
  ):
    _open(tmp_path / "none")


def test_spectra(tmp_path):
  generator = np.random.default_rng(0)
  for name in ("hiss", "hum"):
    noise = generator.integers(-9000, 9000, 8000)
    wave_files.write(tmp_path / name / "1.wav", noise, rate=8000)
  options = SourceOptions(
    data_dir=str(tmp_path), extraction="log_mel", sample_rate_hz=8000
  )
  dataset = registry.load("audio_folder", options)
  # Windows of 240 samples, 160 apart.
  assert dataset.info.shape == (1 + (8000 - 240) // 160, 40, 1)
  (batch,) = dataset.read("train", examples.fail_on_bad_record)
  assert batch.features.shape == (2, *dataset.info.shape)
  assert np.isfinite(batch.features).all()
