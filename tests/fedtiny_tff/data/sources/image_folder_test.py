"""Folders of images: layouts, splits, order, sizes, and folders that cannot be used."""

import numpy as np
import pytest

from fedtiny_tff.data import examples
from fedtiny_tff.data.sources import class_folders, image_folder
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources import made_images


def test_classes_without_clients(tmp_path):
  made_images.write(tmp_path / "b" / "2.PNG", 22)
  made_images.write(tmp_path / "b" / "10.png", 21)
  made_images.write(tmp_path / "a" / "x.png", 11)
  made_images.write(tmp_path / ".hidden" / "x.png", 99)
  made_images.write(tmp_path / "a" / ".y.png", 99)
  dataset = made_images.opened(tmp_path)
  assert dataset.info.class_names == ("a", "b")
  assert dataset.info.shape == (2, 3, 1)
  assert dataset.info.feature_type == "uint8"
  assert dataset.info.preprocessing.scale == 1 / 255
  assert dataset.measures_inputs
  assert not dataset.has_clients
  # Sorted as text: "10.png" comes before "2.PNG". Too few to hold any out.
  for _ in range(2):
    assert made_images.read(dataset) == ([11, 21, 22], [0, 1, 1], [], [])
  assert made_images.read(dataset, "test") == ([], [], [], [])


def test_clients(tmp_path):
  made_images.write(tmp_path / "zoe" / "cat" / "1.png", 1)
  made_images.write(tmp_path / "adam" / "dog" / "1.png", 2)
  made_images.write(tmp_path / "adam" / "cat" / "1.png", 3)
  dataset = made_images.opened(tmp_path)
  assert dataset.has_clients
  assert made_images.read(dataset) == (
    [3, 2, 1],
    [0, 1, 0],
    ["adam", "adam", "zoe"],
    [],
  )


def test_a_share_of_each_client_is_held_out(tmp_path):
  for client in ("a", "b"):
    for number in range(10):
      name = "even" if number % 2 == 0 else "odd"
      made_images.write(tmp_path / client / name / f"{number}.png", number)
  dataset = made_images.opened(tmp_path, test_share=0.3)
  train, test = made_images.read(dataset), made_images.read(dataset, "test")
  for client in ("a", "b"):
    mine = [p for p, c in zip(test[0], test[2], strict=True) if c == client]
    rest = [p for p, c in zip(train[0], train[2], strict=True) if c == client]
    assert len(mine) == 3
    assert sorted(mine + rest) == list(range(10))
  assert made_images.read(made_images.opened(tmp_path, test_share=0.0), "test")[0] == []


def test_splits_in_folders(tmp_path):
  made_images.two_classes(tmp_path / "train")
  made_images.write(tmp_path / "test" / "dog" / "1.png", 30)
  made_images.write(tmp_path / "test" / "emu" / "1.png", 40)
  dataset = made_images.opened(tmp_path)
  assert dataset.info.class_names == ("cat", "dog")
  assert made_images.read(dataset)[0] == [10, 20]
  assert made_images.read(dataset, "test") == (
    [30],
    [1],
    [],
    [
      f"{tmp_path}/test/emu/1.png: class emu does not occur in the training split",
    ],
  )


def test_a_class_may_be_called_train(tmp_path):
  made_images.write(tmp_path / "train" / "1.png", 1)
  made_images.write(tmp_path / "bus" / "1.png", 2)
  assert made_images.opened(tmp_path).info.class_names == ("bus", "train")


def test_images_are_resized_and_channels_repeated(tmp_path):
  made_images.write(tmp_path / "a" / "1.png", 7, (3, 9))
  made_images.write(tmp_path / "b" / "1.png", 8, (20, 1))
  options = SourceOptions(data_dir=str(tmp_path), image_size=(4, 5))
  dataset = image_folder.open_image_folder(options)
  (batch,) = dataset.read("train", examples.fail_on_bad_record)
  assert batch.features.shape == (2, 4, 5, 3)
  assert batch.features.dtype == np.uint8
  assert [set(image.ravel()) for image in batch.features] == [{7}, {8}]


def test_many_images_come_in_their_order(tmp_path, monkeypatch):
  monkeypatch.setattr(class_folders, "_BATCH_BYTES", 4 * 6)
  for number in range(30):
    made_images.write(tmp_path / "ab"[number % 2] / f"{number:02}.png", number)
  dataset = made_images.opened(tmp_path, test_share=0.0)
  assert made_images.read(dataset)[0] == [*range(0, 30, 2), *range(1, 30, 2)]
  sizes = [len(b.labels) for b in dataset.read("train", examples.fail_on_bad_record)]
  assert sizes == [4] * 7 + [2]


def test_another_size_is_a_bad_record(tmp_path):
  made_images.two_classes(tmp_path)
  made_images.write(tmp_path / "dog" / "2.png", 30, (5, 4))
  pixels, _, _, bad = made_images.read(made_images.opened(tmp_path))
  assert pixels == [10, 20]
  assert bad == [
    f"{tmp_path}/dog/2.png: is 5x4 pixels, the first image 2x3: bring all to one size "
    "with --image_size"
  ]


def test_the_first_image_that_can_be_decoded_gives_the_size(tmp_path):
  made_images.two_classes(tmp_path)
  (tmp_path / "cat" / "0.png").write_bytes(b"")
  dataset = made_images.opened(tmp_path)
  assert dataset.info.shape == (2, 3, 1)
  pixels, _, _, bad = made_images.read(dataset)
  assert pixels == [10, 20]
  assert bad == [f"{tmp_path}/cat/0.png: the file is empty"]
  with pytest.raises(InputError, match="png: the file is empty; mend it, or leave"):
    list(dataset.read("train", examples.fail_on_bad_record))


def _mixed(folder):
  made_images.write(folder / "cat" / "1.png")
  made_images.write(folder / "me" / "cat" / "1.png")


def _mixed_splits(folder):
  made_images.two_classes(folder / "train")
  made_images.write(folder / "test" / "me" / "cat" / "1.png")


def _no_images(folder):
  (folder / "cat").mkdir()


def _third_split(folder):
  made_images.two_classes(folder / "train")
  made_images.two_classes(folder / "val")


def _only_test(folder):
  made_images.two_classes(folder / "test")


def _one_class(folder):
  made_images.write(folder / "cat" / "1.png")


def _all_corrupt(folder):
  for name in ("cat", "dog"):
    (folder / name).mkdir()
    (folder / name / "1.png").write_bytes(b"no image")


@pytest.mark.parametrize(
  ("build", "message"),
  [
    (
      _mixed,
      "different depths: .*/cat/1.png in class/, .*/me/cat/1.png in client/class/",
    ),
    (
      _mixed_splits,
      "different depths: .*/train/cat/1.png in class/, .*/test/me/cat/1.png",
    ),
    (
      _no_images,
      "no image .* hold such; check --data_dir; left out: .*/cat: an empty folder$",
    ),
    (lambda folder: None, "no image .* hold such; check --data_dir$"),
    (
      _third_split,
      "train/ lies beside .*val/; a folder with splits has train/ and test/",
    ),
    (_only_test, "has test/ but no train/"),
    (_one_class, "class cat is the only one; training needs two or more"),
    (_all_corrupt, "cat/1.png: is damaged, .* none of the 2 training images can be"),
  ],
)
def test_folders_that_cannot_be_used(tmp_path, build, message):
  build(tmp_path)
  with pytest.raises(InputError, match=message) as caught:
    made_images.opened(tmp_path)
  assert len(str(caught.value).splitlines()) == 1


def test_wrong_options(tmp_path):
  made_images.two_classes(tmp_path)
  with pytest.raises(InputError, match="--image_channels must be 1 or 3, got 2"):
    image_folder.open_image_folder(
      SourceOptions(data_dir=str(tmp_path), image_channels=2)
    )
  for data_dir in (None, ""):
    with pytest.raises(InputError, match="image_folder needs --data_dir: a folder"):
      image_folder.open_image_folder(SourceOptions(data_dir=data_dir))
  for wrong in (tmp_path / "none", tmp_path / "cat" / "1.png"):
    with pytest.raises(InputError, match=f"--data_dir={wrong}: no such folder; name a"):
      image_folder.open_image_folder(SourceOptions(data_dir=str(wrong)))


def test_accents_are_one_character_whatever_the_file_system(tmp_path):
  made_images.write(tmp_path / "u1" / "caf\u00e9" / "1.png", 1)
  made_images.write(tmp_path / "u2" / "cafe\u0301" / "1.png", 2)
  made_images.write(tmp_path / "u2" / "dog" / "1.png", 3)
  dataset = made_images.opened(tmp_path)
  assert dataset.info.class_names == ("caf\u00e9", "dog")
  assert made_images.read(dataset)[:2] == ([1, 2, 3], [0, 0, 1])
