"""What lies in folders of classes: litter, links, clients by folder and by name."""

import os

import pytest

from fedtiny_tff.errors import InputError
from tests.fedtiny_tff.data.sources import made_images


def test_what_is_no_image_is_told_in_its_place(tmp_path):
  data, outside = tmp_path / "data", tmp_path / "outside.png"
  made_images.two_classes(data)
  made_images.write(outside, 9)
  made_images.write(data / "stray.png")
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
  dataset = made_images.opened(data)
  pixels, _, _, bad = made_images.read(dataset)
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
      made_images.write(place / "1.png", len(place.name))
    _litter(place)
  (tmp_path / "__MACOSX" / "train").mkdir()
  dataset = made_images.opened(tmp_path)
  assert dataset.info.class_names == ("cat", "dog")
  assert made_images.read(dataset)[3] == []
  assert made_images.read(dataset, "test")[3] == []
  assert dataset.notes == ()


def test_files_beside_class_folders_are_told(tmp_path):
  made_images.two_classes(tmp_path / "plain")
  made_images.two_classes(tmp_path / "owned" / "me")
  made_images.two_classes(tmp_path / "split" / "train")
  made_images.two_classes(tmp_path / "split" / "test")
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
    dataset = made_images.opened(tmp_path / name)
    assert made_images.read(dataset)[3] == made_images.read(dataset, "test")[3] == []
    place = tmp_path / name
    assert dataset.notes == (
      f"{place}: files beside class folders are not used: {told}",
    )


def test_an_image_beside_splits_is_a_bad_record(tmp_path):
  made_images.two_classes(tmp_path / "train")
  made_images.write(tmp_path / "stray.png")
  dataset = made_images.opened(tmp_path)
  assert made_images.read(dataset)[3] == [
    f"{tmp_path}/stray.png: an image in no class folder"
  ]


def test_many_files_are_told_in_a_line(tmp_path):
  made_images.two_classes(tmp_path)
  for number in range(10):
    (tmp_path / f"{number}\n.txt").write_text("")
  (note,) = made_images.opened(tmp_path).notes
  assert note.endswith(r"used: '0\n.txt', '1\n.txt', '2\n.txt', '3\n.txt', '4\n.txt', "
    r"'5\n.txt', '6\n.txt', '7\n.txt' and 2 more")  # fmt: skip


def test_a_class_folder_without_an_image_makes_no_class(tmp_path):
  for split in ("train", "test"):
    made_images.two_classes(tmp_path / split)
    (tmp_path / split / "ant").mkdir()
    _litter(tmp_path / split / "ant")
  (tmp_path / "test" / "cat" / "1.png").unlink()
  (tmp_path / "train" / "bee").mkdir()
  (tmp_path / "train" / "bee" / "1.webp").write_bytes(b"")
  dataset = made_images.opened(tmp_path)
  assert dataset.info.class_names == ("cat", "dog")
  # The file may be meant as a picture of a bee.
  told = f"{tmp_path}/train/bee/1.webp: no image by its name"
  assert [record.startswith(told) for record in made_images.read(dataset)[3]] == [True]
  assert dataset.notes == (
    f"{tmp_path}: class folders without a training image make no class: 'ant', 'bee'",
  )


def test_a_client_without_an_image_is_told(tmp_path):
  made_images.two_classes(tmp_path / "zoe")
  # Not everybody has all classes.
  for name in ("zoe/emu", "ann/cat", "ann/dog", "bob", "cem/cat"):
    (tmp_path / name).mkdir(parents=True)
  made_images.write(tmp_path / "cem" / "dog" / "1.png", 30)
  (tmp_path / "bob" / "README").write_text("on holiday")
  dataset = made_images.opened(tmp_path)
  assert made_images.read(dataset) == (
    [30, 10, 20],
    [1, 0, 1],
    ["cem", "zoe", "zoe"],
    [],
  )
  assert dataset.notes == (
    f"{tmp_path}: files beside class folders are not used: 'bob/README'",
    f"{tmp_path}: class folders without a training image make no class: 'emu'",
    f"{tmp_path}: clients' folders without a training image make no client: 'ann', 'bob'",
  )


def test_folders_too_deep_are_bad_records(tmp_path):
  made_images.two_classes(tmp_path / "me")
  made_images.write(tmp_path / "me" / "cat" / "more" / "1.png")
  assert made_images.read(made_images.opened(tmp_path))[3] == [
    f"{tmp_path}/me/cat/more: a folder in client/class/, where only images belong"
  ]


def test_the_folder_itself_may_be_a_link(tmp_path):
  made_images.two_classes(tmp_path / "real")
  (tmp_path / "link").symlink_to(tmp_path / "real")
  assert made_images.read(made_images.opened(tmp_path / "link"))[0] == [10, 20]


def test_clients_by_the_files_names(tmp_path):
  for name in ("cat/zoe_1.png", "cat/ann_bo_2.png", "dog/zoe_3.png"):
    made_images.write(tmp_path / name, int(name[-5]))
  made_images.write(tmp_path / "dog" / "4.png")
  made_images.write(tmp_path / "dog" / "_5.png")
  dataset = made_images.opened(tmp_path, client_separator="_")
  assert dataset.has_clients
  # Up to where it stands first.
  assert made_images.read(dataset) == (
    [2, 1, 3],
    [0, 0, 1],
    ["ann", "zoe", "zoe"],
    [
      f"{tmp_path}/dog/4.png: its name has no '_' (--client_separator)",
      f"{tmp_path}/dog/_5.png: the client's id in its name is empty",
    ],
  )
  assert not made_images.opened(tmp_path).has_clients


def test_a_share_is_held_out_of_each_client_that_names_tell(tmp_path):
  for number in range(10):
    for owner in ("a", "b"):
      made_images.write(
        tmp_path / ("even", "odd")[number % 2] / f"{owner}-{number}.png", number
      )
  dataset = made_images.opened(tmp_path, client_separator="-", test_share=0.3)
  _, _, owners, _ = made_images.read(dataset, "test")
  assert sorted(owners) == ["a"] * 3 + ["b"] * 3


def test_letters_with_accents_in_names_and_separator(tmp_path):
  composed, split = "a\u00e9_", "ae\u0301_"
  made_images.write(tmp_path / "cat" / f"{composed}1.png", 1)
  made_images.write(tmp_path / "dog" / f"{split}2.png", 2)
  for separator in (composed[1:], split[1:]):
    assert made_images.read(made_images.opened(tmp_path, client_separator=separator))[
      2:
    ] == (["a", "a"], [])


def test_a_class_without_names_of_clients(tmp_path):
  made_images.write(tmp_path / "cat" / "zoe_1.png", 1)
  made_images.write(tmp_path / "dog" / "2.png", 2)
  with pytest.raises(InputError, match=r"cat is the only one, left out: .*no '_' \("):
    made_images.opened(tmp_path, client_separator="_")


def test_clients_by_folders_and_by_names(tmp_path):
  made_images.two_classes(tmp_path / "me")
  with pytest.raises(InputError, match=r"lie in client/class/, .* or name the folder"):
    made_images.opened(tmp_path, client_separator="_")
