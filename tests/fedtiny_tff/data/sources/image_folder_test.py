"""Folders of images: layouts, splits, order, and everything that is no image."""

import os

import numpy as np
import pytest
import tensorflow as tf

from fedtiny_tff.data import examples
from fedtiny_tff.data.sources import class_folders, image_folder
from fedtiny_tff.data.sources.options import SourceOptions
from fedtiny_tff.errors import InputError


def _write(path, value=0, size=(2, 3)):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.full([*size, 1], value, np.uint8)
  path.write_bytes(tf.io.encode_png(pixels).numpy())


def _open(folder, **options):
  return image_folder.open_image_folder(
    SourceOptions(data_dir=str(folder), image_channels=1, **options)
  )


def _read(dataset, split="train"):
  """Returns first pixels, labels, clients and what was bad."""
  bad: list[examples.BadRecord] = []
  batches = list(dataset.read(split, bad.append))
  pixels = [int(image[0, 0, 0]) for batch in batches for image in batch.features]
  labels = [int(label) for batch in batches for label in batch.labels]
  clients = [str(c) for b in batches if b.clients is not None for c in b.clients]
  return pixels, labels, clients, [str(record) for record in bad]


def _two_classes(folder):
  _write(folder / "cat" / "1.png", 10)
  _write(folder / "dog" / "1.png", 20)


def test_classes_without_clients(tmp_path):
  _write(tmp_path / "b" / "2.PNG", 22)
  _write(tmp_path / "b" / "10.png", 21)
  _write(tmp_path / "a" / "x.png", 11)
  _write(tmp_path / ".hidden" / "x.png", 99)
  _write(tmp_path / "a" / ".y.png", 99)
  dataset = _open(tmp_path)
  assert dataset.info.class_names == ("a", "b")
  assert dataset.info.shape == (2, 3, 1)
  assert dataset.info.feature_type == "uint8"
  assert dataset.info.preprocessing.scale == 1 / 255
  assert dataset.measures_inputs
  assert not dataset.has_clients
  # Sorted as text: "10.png" comes before "2.PNG". Too few to hold any out.
  for _ in range(2):
    assert _read(dataset) == ([11, 21, 22], [0, 1, 1], [], [])
  assert _read(dataset, "test") == ([], [], [], [])


def test_clients(tmp_path):
  _write(tmp_path / "zoe" / "cat" / "1.png", 1)
  _write(tmp_path / "adam" / "dog" / "1.png", 2)
  _write(tmp_path / "adam" / "cat" / "1.png", 3)
  dataset = _open(tmp_path)
  assert dataset.has_clients
  assert _read(dataset) == ([3, 2, 1], [0, 1, 0], ["adam", "adam", "zoe"], [])


def test_a_share_of_each_client_is_held_out(tmp_path):
  for client in ("a", "b"):
    for number in range(10):
      name = "even" if number % 2 == 0 else "odd"
      _write(tmp_path / client / name / f"{number}.png", number)
  dataset = _open(tmp_path, test_share=0.3)
  train, test = _read(dataset), _read(dataset, "test")
  for client in ("a", "b"):
    mine = [p for p, c in zip(test[0], test[2], strict=True) if c == client]
    rest = [p for p, c in zip(train[0], train[2], strict=True) if c == client]
    assert len(mine) == 3
    assert sorted(mine + rest) == list(range(10))
  assert _read(_open(tmp_path, test_share=0.0), "test")[0] == []


def test_splits_in_folders(tmp_path):
  _two_classes(tmp_path / "train")
  _write(tmp_path / "test" / "dog" / "1.png", 30)
  _write(tmp_path / "test" / "emu" / "1.png", 40)
  dataset = _open(tmp_path)
  assert dataset.info.class_names == ("cat", "dog")
  assert _read(dataset)[0] == [10, 20]
  assert _read(dataset, "test") == (
    [30],
    [1],
    [],
    [
      f"{tmp_path}/test/emu/1.png: class emu does not occur in the training split",
    ],
  )


def test_a_class_may_be_called_train(tmp_path):
  _write(tmp_path / "train" / "1.png", 1)
  _write(tmp_path / "bus" / "1.png", 2)
  assert _open(tmp_path).info.class_names == ("bus", "train")


def test_images_are_resized_and_channels_repeated(tmp_path):
  _write(tmp_path / "a" / "1.png", 7, (3, 9))
  _write(tmp_path / "b" / "1.png", 8, (20, 1))
  options = SourceOptions(data_dir=str(tmp_path), image_size=(4, 5))
  dataset = image_folder.open_image_folder(options)
  (batch,) = dataset.read("train", examples.fail_on_bad_record)
  assert batch.features.shape == (2, 4, 5, 3)
  assert batch.features.dtype == np.uint8
  assert [set(image.ravel()) for image in batch.features] == [{7}, {8}]


def test_many_images_come_in_their_order(tmp_path, monkeypatch):
  monkeypatch.setattr(class_folders, "_BATCH_BYTES", 4 * 6)
  for number in range(30):
    _write(tmp_path / "ab"[number % 2] / f"{number:02}.png", number)
  dataset = _open(tmp_path, test_share=0.0)
  assert _read(dataset)[0] == [*range(0, 30, 2), *range(1, 30, 2)]
  sizes = [len(b.labels) for b in dataset.read("train", examples.fail_on_bad_record)]
  assert sizes == [4] * 7 + [2]


def test_another_size_is_a_bad_record(tmp_path):
  _two_classes(tmp_path)
  _write(tmp_path / "dog" / "2.png", 30, (5, 4))
  pixels, _, _, bad = _read(_open(tmp_path))
  assert pixels == [10, 20]
  assert bad == [
    f"{tmp_path}/dog/2.png: is 5x4 pixels, the first image 2x3: bring all to one size "
    "with --image_size"
  ]


def test_the_first_image_that_can_be_decoded_gives_the_size(tmp_path):
  _two_classes(tmp_path)
  (tmp_path / "cat" / "0.png").write_bytes(b"")
  dataset = _open(tmp_path)
  assert dataset.info.shape == (2, 3, 1)
  pixels, _, _, bad = _read(dataset)
  assert pixels == [10, 20]
  assert bad == [f"{tmp_path}/cat/0.png: the file is empty"]
  with pytest.raises(InputError, match="png: the file is empty; mend it, or leave"):
    list(dataset.read("train", examples.fail_on_bad_record))


def test_what_is_no_image_is_told_in_its_place(tmp_path):
  data, outside = tmp_path / "data", tmp_path / "outside.png"
  _two_classes(data)
  _write(outside, 9)
  _write(data / "stray.png")
  (data / "cat" / "notes.txt").write_text("a cat")
  (data / "cat" / "0.jpg").write_bytes(b"no image")
  (data / "cat" / "old").mkdir()
  (data / "dog" / "out.png").symlink_to(outside)
  (data / "dog" / "in.png").symlink_to(data / "cat" / "1.png")
  (data / "dog" / "gone.png").symlink_to(data / "nowhere.png")
  (data / "dog" / "self.png").symlink_to(data / "dog" / "self.png")
  (data / "loop").symlink_to(data)
  os.mkfifo(data / "dog" / "pipe.png")
  (data / "li\nne").mkdir()
  dataset = _open(data)
  pixels, _, _, bad = _read(dataset)
  assert pixels == [10, 20, 10]
  where = f"{data}/"
  assert [record.removeprefix(where) for record in bad] == [
    "cat/0.jpg: is damaged, or no PNG, JPEG, BMP or GIF",
    "cat/notes.txt: no image by its name (.png, .jpg, .jpeg, .bmp, .gif)",
    "cat/old: an empty folder",
    "dog/gone.png: no regular file",
    "dog/out.png: a link that leads out of the dataset's folder",
    "dog/pipe.png: no regular file",
    "dog/self.png: no regular file",
    r"li\nne: the folder's name has characters that no name may have: 'li\nne'",
    "loop: a link to a folder",
    "stray.png: an image in no class folder",
  ]
  assert dataset.notes == ()


def _litter(folder):
  for name in ("Thumbs.db", "desktop.ini", "THUMBS.DB", ".DS_Store", "._1.png"):
    (folder / name).write_text("")
  (folder / "__MACOSX").mkdir()
  (folder / "__MACOSX" / "._1.png").write_text("")
  (folder / "__MACOSX" / "2.png").write_text("")


@pytest.mark.parametrize(
  "folders",
  [
    ["cat", "dog", ""],
    ["me/cat", "me/dog", "me", ""],
    ["train/cat", "train/dog", "train", "test/dog", "test", ""],
  ],
)
def test_litter_of_operating_systems_is_ignored(tmp_path, folders):
  for name in folders:
    place = tmp_path / name
    if place.name in ("cat", "dog"):
      _write(place / "1.png", len(place.name))
    _litter(place)
  (tmp_path / "__MACOSX" / "train").mkdir()
  dataset = _open(tmp_path)
  assert dataset.info.class_names == ("cat", "dog")
  assert _read(dataset)[3] == []
  assert _read(dataset, "test")[3] == []
  assert dataset.notes == ()


def test_files_beside_class_folders_are_told(tmp_path):
  _two_classes(tmp_path / "plain")
  _two_classes(tmp_path / "owned" / "me")
  _two_classes(tmp_path / "split" / "train")
  _two_classes(tmp_path / "split" / "test")
  for name in (
    "plain/README", "owned/labels.csv", "owned/me/LICENSE.txt", "split/README",
    "split/train/a.webp", "split/test/b.txt",
  ):  # fmt: skip
    (tmp_path / name).write_text("read me")
  for name, told in (
    ("plain", "'README'"),
    ("owned", "'labels.csv', 'me/LICENSE.txt'"),
    ("split", "'README', 'train/a.webp', 'test/b.txt'"),
  ):
    dataset = _open(tmp_path / name)
    assert _read(dataset)[3] == _read(dataset, "test")[3] == []
    place = tmp_path / name
    assert dataset.notes == (
      f"{place}: files beside class folders are not used: {told}",
    )


def test_an_image_beside_splits_is_a_bad_record(tmp_path):
  _two_classes(tmp_path / "train")
  _write(tmp_path / "stray.png")
  dataset = _open(tmp_path)
  assert _read(dataset)[3] == [f"{tmp_path}/stray.png: an image in no class folder"]


def test_many_files_are_told_in_a_line(tmp_path):
  _two_classes(tmp_path)
  for number in range(10):
    (tmp_path / f"{number}\n.txt").write_text("")
  (note,) = _open(tmp_path).notes
  assert note.endswith(r"used: '0\n.txt', '1\n.txt', '2\n.txt', '3\n.txt', '4\n.txt', "
    r"'5\n.txt', '6\n.txt', '7\n.txt' and 2 more")  # fmt: skip


def test_a_class_folder_without_an_image_makes_no_class(tmp_path):
  for split in ("train", "test"):
    _two_classes(tmp_path / split)
    (tmp_path / split / "ant").mkdir()
    _litter(tmp_path / split / "ant")
  (tmp_path / "test" / "cat" / "1.png").unlink()
  (tmp_path / "train" / "bee").mkdir()
  (tmp_path / "train" / "bee" / "1.webp").write_bytes(b"")
  dataset = _open(tmp_path)
  assert dataset.info.class_names == ("cat", "dog")
  # The file may be meant as a picture of a bee.
  told = f"{tmp_path}/train/bee/1.webp: no image by its name"
  assert [record.startswith(told) for record in _read(dataset)[3]] == [True]
  assert dataset.notes == (
    f"{tmp_path}: class folders without a training image make no class: 'ant', 'bee'",
  )


def test_a_client_without_an_image_is_told(tmp_path):
  _two_classes(tmp_path / "zoe")
  # Not everybody has all classes.
  for name in ("zoe/emu", "ann/cat", "ann/dog", "bob", "cem/cat"):
    (tmp_path / name).mkdir(parents=True)
  _write(tmp_path / "cem" / "dog" / "1.png", 30)
  (tmp_path / "bob" / "README").write_text("on holiday")
  dataset = _open(tmp_path)
  assert _read(dataset) == ([30, 10, 20], [1, 0, 1], ["cem", "zoe", "zoe"], [])
  assert dataset.notes == (
    f"{tmp_path}: files beside class folders are not used: 'bob/README'",
    f"{tmp_path}: class folders without a training image make no class: 'emu'",
    f"{tmp_path}: clients' folders without a training image make no client: 'ann', 'bob'",
  )


def test_folders_too_deep_are_bad_records(tmp_path):
  _two_classes(tmp_path / "me")
  _write(tmp_path / "me" / "cat" / "more" / "1.png")
  assert _read(_open(tmp_path))[3] == [
    f"{tmp_path}/me/cat/more: a folder in client/class/, where only images belong"
  ]


def test_the_folder_itself_may_be_a_link(tmp_path):
  _two_classes(tmp_path / "real")
  (tmp_path / "link").symlink_to(tmp_path / "real")
  assert _read(_open(tmp_path / "link"))[0] == [10, 20]


def _mixed(folder):
  _write(folder / "cat" / "1.png")
  _write(folder / "me" / "cat" / "1.png")


def _mixed_splits(folder):
  _two_classes(folder / "train")
  _write(folder / "test" / "me" / "cat" / "1.png")


def _no_images(folder):
  (folder / "cat").mkdir()


def _third_split(folder):
  _two_classes(folder / "train")
  _two_classes(folder / "val")


def _only_test(folder):
  _two_classes(folder / "test")


def _one_class(folder):
  _write(folder / "cat" / "1.png")


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
    (_no_images, "no image .* hold such; check --data_dir; left out: .*/cat: an empty folder$"),
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
    _open(tmp_path)
  assert len(str(caught.value).splitlines()) == 1


def test_wrong_options(tmp_path):
  _two_classes(tmp_path)
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
  _write(tmp_path / "u1" / "caf\u00e9" / "1.png", 1)
  _write(tmp_path / "u2" / "cafe\u0301" / "1.png", 2)
  _write(tmp_path / "u2" / "dog" / "1.png", 3)
  dataset = _open(tmp_path)
  assert dataset.info.class_names == ("caf\u00e9", "dog")
  assert _read(dataset)[:2] == ([1, 2, 3], [0, 0, 1])


def test_clients_by_the_files_names(tmp_path):
  for name in ("cat/zoe_1.png", "cat/ann_bo_2.png", "dog/zoe_3.png"):
    _write(tmp_path / name, int(name[-5]))
  _write(tmp_path / "dog" / "4.png")
  _write(tmp_path / "dog" / "_5.png")
  dataset = _open(tmp_path, client_separator="_")
  assert dataset.has_clients
  # Up to where it stands first.
  assert _read(dataset) == (
    [2, 1, 3],
    [0, 0, 1],
    ["ann", "zoe", "zoe"],
    [
      f"{tmp_path}/dog/4.png: its name has no '_' (--client_separator)",
      f"{tmp_path}/dog/_5.png: the client's id in its name is empty",
    ],
  )
  assert not _open(tmp_path).has_clients


def test_a_share_is_held_out_of_each_client_that_names_tell(tmp_path):
  for number in range(10):
    for owner in ("a", "b"):
      _write(tmp_path / ("even", "odd")[number % 2] / f"{owner}-{number}.png", number)
  dataset = _open(tmp_path, client_separator="-", test_share=0.3)
  _, _, owners, _ = _read(dataset, "test")
  assert sorted(owners) == ["a"] * 3 + ["b"] * 3


def test_letters_with_accents_in_names_and_separator(tmp_path):
  composed, split = "a\u00e9_", "ae\u0301_"
  _write(tmp_path / "cat" / f"{composed}1.png", 1)
  _write(tmp_path / "dog" / f"{split}2.png", 2)
  for separator in (composed[1:], split[1:]):
    assert _read(_open(tmp_path, client_separator=separator))[2:] == (["a", "a"], [])


def test_a_class_without_names_of_clients(tmp_path):
  _write(tmp_path / "cat" / "zoe_1.png", 1)
  _write(tmp_path / "dog" / "2.png", 2)
  with pytest.raises(InputError, match=r"cat is the only one, left out: .*no '_' \("):
    _open(tmp_path, client_separator="_")


def test_clients_by_folders_and_by_names(tmp_path):
  _two_classes(tmp_path / "me")
  with pytest.raises(InputError, match=r"lie in client/class/, .* or name the folder"):
    _open(tmp_path, client_separator="_")
