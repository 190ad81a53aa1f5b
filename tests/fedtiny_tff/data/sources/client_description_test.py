"""A hostile dataset.json is refused with one line that names what is wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data.preprocessing import Preprocessing
from fedtiny_tff.data.sources import client_description
from fedtiny_tff.errors import InputError
from tests.fedtiny_tff import support

_GOOD = {
  "shape": [2, 3],
  "classes": ["a", "b"],
  "splits": {"train": ["x.tfrecord"], "test": ["inner/y.tfrecord"]},
}
_MEASURED = {"scale": 0.5, "mean": [0, 1, 2], "deviation": [1.0, 2.0, 3.0]}


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("clients") / "data"
  (folder / "inner").mkdir(parents=True)
  for name in ("x.tfrecord", "inner/y.tfrecord", "../outside"):
    (folder / name).touch()
  (folder / "link").symlink_to("../outside")
  (folder / "alias").symlink_to("x.tfrecord")
  return folder


def _read(folder, content):
  if not isinstance(content, (str, bytes)):
    content = json.dumps(content)
  content = content.encode() if isinstance(content, str) else content
  (folder / "dataset.json").write_bytes(content)
  return client_description.read(folder)


def test_all_of_it_is_read(folder):
  found = _read(folder, {**_GOOD, "preprocessing": _MEASURED})
  assert found.shape == (2, 3)
  assert found.class_names == ("a", "b")
  assert found.files == {
    "train": (folder / "x.tfrecord",),
    "test": (folder / "inner" / "y.tfrecord",),
  }
  assert found.preprocessing == Preprocessing(0.5, (0, 1, 2), (1, 2, 3))
  assert found.is_measured


def test_optional_parts_may_be_left_out(folder):
  found = _read(folder, {**_GOOD, "splits": {"train": ["x.tfrecord"]}})
  assert found.files["test"] == ()
  assert (found.preprocessing, found.is_measured) == (None, False)
  found = _read(folder, {**_GOOD, "preprocessing": {"scale": 0.25}})
  assert found.preprocessing == Preprocessing(0.25, (0,), (1,))
  assert not found.is_measured


def _with(**changed):
  return {**_GOOD, **changed}


def _splits(*train, **more):
  return _with(splits={"train": list(train), **more})


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "is no JSON: Expecting value at line 1, column 1"),
    (b"\xff", "is not UTF-8"),
    ("[" * 100_000, "is nested too deeply"),
    ('{"shape": [2,\n 3', "is no JSON: Expecting ',' delimiter at line 2, column 3"),
    ('{"shape": [1], "shape": [2]}', "has 'shape' twice in one object"),
    ('{"shape": [NaN]}', "holds NaN, which is no number of JSON"),
    ('{"shape": [' + "9" * 5000 + "]}", "holds a number that is too long"),
    ([], r"it must be an object, got \[\]"),
    ({"shape": [1], "classes": ["a", "b"]}, "it has no 'splits'"),
    (_with(more=1), "it has the unknown key 'more'; known are classes, prep"),
    (_with(shape=[]), "shape must be a list of 1 to 4 positive whole numbers, got"),
    (_with(shape=[1] * 5), "shape must be a list of 1 to 4"),
    (_with(shape=[0]), r"positive whole numbers, got \[0\]"),
    (_with(shape=[True]), r"positive whole numbers, got \[True\]"),
    (_with(shape=[2.0]), r"positive whole numbers, got \[2.0\]"),
    (_with(shape="8"), "positive whole numbers, got '8'"),
    (_with(shape=[4097, 4096]), r"shape must have at most 16,777,216 values"),
    (_with(classes=["a"]), "classes must be a list of 2 to 65,536 names"),
    (_with(classes={"a": 1, "b": 2}), "classes must be a list of"),
    (_with(classes=["a", "a"]), "classes has 'a' twice"),
    (_with(classes=["a", ["b"]]), "classes: a name is list"),
    (_with(classes=["a", "b\n"]), r"classes: a name has characters .*'b\\n'"),
    (_with(splits=[]), "splits must be an object"),
    (_with(splits={"test": []}), "splits has no 'train'"),
    (_splits("x.tfrecord", valid=[]), "splits has the unknown key 'valid'"),
    (_splits(), "splits: train must name a file"),
    (_with(splits={"train": "x.tfrecord"}), "splits: train must be a list of file"),
    (_splits(7), "splits: a file name is int 7, expected text"),
    (_splits("x\0"), "splits: a file name has characters"),
    (_splits("\ud800"), "splits: a file name has characters"),
    (_splits("n" * 300), "splits: a file name has 300 characters, expected at most"),
    (_splits("é" * 200), "splits: file 'ééé.*(too long|not found)"),
    (_splits("gone"), "splits: file 'gone' not found beside dataset.json"),
    (_splits("inner"), "splits: file 'inner' not found"),
    (_splits("../outside"), "'../outside' must lie in the folder of dataset.json"),
    (_splits("link"), "'link' must lie in the folder of dataset.json"),
    (_splits("/etc/passwd"), "'/etc/passwd' must lie in the folder"),
    (_splits("x.tfrecord", "./x.tfrecord"), "file './x.tfrecord' is named twice"),
    (_splits("x.tfrecord", test=["alias"]), "file 'alias' is named twice"),
    (_with(preprocessing=[]), "preprocessing must be an object"),
    (_with(preprocessing={}), "preprocessing has no 'scale'"),
    (
      _with(preprocessing={"scale": 1, "mean": [0]}),
      "preprocessing has no 'deviation'",
    ),
    (_with(preprocessing={"scale": 1, "std": [0]}), "the unknown key 'std'"),
    (_with(preprocessing={"scale": "1"}), "scale must be a finite number, got '1'"),
    (_with(preprocessing={"scale": -1}), "scale must be positive"),
    (_with(preprocessing={"scale": 1e-60}), "scale must be positive"),
    (
      _with(preprocessing={"scale": 1, "mean": [0, 0], "deviation": [1, 1]}),
      "mean must have 1 or 3 numbers, got 2",
    ),
    (
      _with(preprocessing={"scale": 1, "mean": [0], "deviation": [0]}),
      "deviation must hold positive",
    ),
    (
      _with(preprocessing={"scale": 1, "extraction": {"kind": "magic"}}),
      "magic",
    ),
  ],
)
def test_what_is_wrong_is_named(folder, content, message):
  with pytest.raises(InputError, match=message) as error:
    _read(folder, content)
  assert str(error.value).startswith(f"{folder}/dataset.json: ")
  assert "\n" not in str(error.value)
  assert len(str(error.value)) < 400


def test_an_extraction_must_make_the_shape(folder):
  from fedtiny_tff.data import extraction

  made = extraction.declare("mfcc", (16_000,))
  shape = list(made.output_shape((16_000,)))
  how = {"scale": 1, "extraction": made.to_json()}
  found = _read(folder, _with(shape=shape, preprocessing=how))
  assert found.preprocessing.extraction == made
  with pytest.raises(
    InputError, match=r"extraction makes features of shape .* is \[2, 3"
  ):
    _read(folder, _with(preprocessing=how))


def test_a_huge_file_is_not_read(folder, monkeypatch):
  monkeypatch.setattr(client_description, "_MOST_BYTES", 1 << 20)
  with pytest.raises(InputError, match="is larger than 1 MiB"):
    _read(folder, b" " * (1 << 20) + b"{}")


_JSON = st.recursive(
  st.none()
  | st.booleans()
  | st.integers()
  | st.floats(allow_nan=False, allow_infinity=False)
  | st.text(max_size=3)
  | st.sampled_from(["x.tfrecord", "a", "shape", "train", "none"]),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(
      st.sampled_from(
        ["train", "test", "scale", "mean", "deviation", "extraction", "kind"]
      ),
      inner,
      max_size=4,
    )
  ),
  max_leaves=8,
)


@support.quick
@given(key=st.sampled_from([*_GOOD, "preprocessing"]), value=_JSON)
def test_any_value_is_read_or_refused_in_one_line(folder, key, value):
  try:
    _read(folder, {**_GOOD, key: value})
  except InputError as error:
    assert "\n" not in str(error)
