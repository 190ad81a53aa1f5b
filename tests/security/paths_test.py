"""What a file names never leads out of its folder, and does nothing elsewhere."""

import ast
import hashlib
import json
import re
import shutil
import struct

import numpy as np
import pytest
from absl import flags

from fedtiny_tff.errors import InputError
from pipelines import inspect
from pipelines.apps import app
from pipelines.datasets import data_folder, data_stage
from pipelines.runs.run_directory import RunDirectory
from pipelines.settings import run_dir_flag
from pipelines.training.client_evaluation import ClientFigures
from tests.fedtiny_tff.data.sources import records
from tests.pipelines import support
from tests.tflite_export import models
from tflite_export.android import android_snippets
from tflite_export.file_format import associated_files
from tflite_export.microcontrollers import c_source

HOSTILE_NAMES = (
  '"; system("touch x"); //', "*/ int x; /*", "$(touch x)", "${evil()}", "\\u0022+x+\\u0022",
  "??/", "\\", "a\nb", "\u2028", "../../x", "</script>", "%s%n",
)  # fmt: skip


@pytest.fixture(name="prepared", scope="module")
def fixture_prepared(tmp_path_factory):
  folder = tmp_path_factory.mktemp("prepared") / "data"
  data_stage.write_data(support.plan_data(support.make_config()), folder)
  return folder


@pytest.fixture(name="folder")
def fixture_folder(prepared, tmp_path):
  return shutil.copytree(prepared, tmp_path / "data")


def _describe_anew(folder):
  """States the sizes and hashes that the files have now, as an attacker would."""
  path = folder / data_folder.DESCRIPTION
  document = json.loads(path.read_text())
  for name, facts in document["files"].items():
    content = (folder / name).read_bytes()
    facts.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
  path.write_text(json.dumps(document))


def _refusal(folder):
  with pytest.raises(InputError) as raised:
    data_folder.open_folder(folder)
  message = str(raised.value)
  assert "\n" not in message and str(folder) in message
  return message


class TestPreparedFolders:
  def test_described_anew_it_is_read(self, folder):
    _describe_anew(folder)
    assert data_folder.open_folder(folder).references.shape == (4, 4)

  @pytest.mark.parametrize(
    "name", ["clients.records", "clients.npy", "client_ids.json"]
  )
  def test_a_link_that_leads_out(self, folder, tmp_path, name):
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    assert f"{name}: is a link that leads out" in _refusal(folder)

  def test_a_link_inside(self, folder):
    (folder / "clients.records").rename(folder / "moved")
    (folder / "clients.records").symlink_to("moved")
    assert data_folder.open_folder(folder).clients.num_records

  def test_a_folder_that_is_itself_a_link(self, folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert data_folder.open_folder(tmp_path / "link").clients.num_records

  def test_names_in_the_description_are_not_followed(self, folder, tmp_path):
    path = folder / data_folder.DESCRIPTION
    document = json.loads(path.read_text())
    document["files"]["../outside"] = {"bytes": 0, "sha256": ""}
    path.write_text(json.dumps(document))
    data_folder.open_folder(folder)
    assert not (tmp_path / "outside").exists()

  @pytest.mark.parametrize(
    ("change", "said"),
    [
      (lambda x: np.array([[None] * 4] * 4, object), "cannot be read"),
      (lambda x: x.astype(np.int32), "is int32"),
      (lambda x: x[:, :3], "not int64 [4, 4]"),
      (lambda x: x[:2], "not int64 [4, 4]"),
      (lambda x: x + 10**6, "beyond the"),
      (lambda x: x - 10**6, "impossible places"),
      (lambda x: x + 2**62, "impossible places"),
    ],
  )
  def test_places_that_are_not_in_the_records(self, folder, change, said):
    array = change(np.load(folder / "clients.npy"))
    np.save(folder / "clients.npy", array)
    _describe_anew(folder)
    assert said in _refusal(folder)

  @pytest.mark.parametrize(
    "names", [{}, [1, 2, 3, 4], ["a", "b", "c", {}], ["a", "b", "c", "\x1b[2J"], "abcd"]
  )
  def test_names_that_are_none(self, folder, names):
    (folder / "client_ids.json").write_text(json.dumps(names))
    _describe_anew(folder)
    assert "client_ids.json" in _refusal(folder)

  def test_a_record_that_states_exabytes(self, folder):
    """TensorFlow would believe it, as its checksum is right, and end the process."""
    path = folder / "test.records"
    content = bytearray(path.read_bytes())
    length = struct.pack("<Q", 2**60)
    content[:12] = length + struct.pack("<I", records.checksum(length))
    path.write_bytes(content)
    _describe_anew(folder)
    assert "test.records: record 0 has another length" in _refusal(folder)


@pytest.mark.parametrize(
  "line",
  [
    "--flagfile=/etc/passwd",
    "--output_dir=/elsewhere",
    "--tflm_dir=/x",
    "root:x:0",
    "",
  ],
)
def test_the_flags_of_a_run_name_no_other_file(tmp_path, line):
  run = RunDirectory(tmp_path / "run")
  run.claim(support.make_config())
  run.flags.write_text(f"{run.flags.read_text()}{line}\n")
  with support.fresh_flags(), pytest.raises(InputError, match="is no flag of a run"):
    flags.FLAGS(["x", f"--run_dir={run.path}"])
    run_dir_flag.read()


def test_clients_names_are_no_formulas():
  hostile = ("=cmd()", "+1", "-1", "@x", "plain")
  ones = np.ones(len(hostile), np.int64)
  rows = ClientFigures("test", hostile, len(hostile), ones, ones).to_csv().splitlines()
  assert [row.split(",")[0] for row in rows[1:]] == [
    "'=cmd()",
    "'+1",
    "'-1",
    "'@x",
    "plain",
  ]


class TestGeneratedSources:
  def test_names_stay_inside_their_c_strings(self):
    content = models.converted("int8_dense", 0.1)
    for at in range(0, len(HOSTILE_NAMES), models.NUM_CLASSES):
      names = HOSTILE_NAMES[at : at + models.NUM_CLASSES]
      text = c_source.c_sources(content, names, 1024)["model_settings.h"]
      lines = (
        text.split("kClassNames[kNumClasses] = {\n")[1].split("};")[0].split(",\n")
      )
      assert len(lines) == len(names)
      for line, name in zip(lines, names, strict=True):
        # Only octal escapes, which Python reads alike.
        assert re.fullmatch(r'  "([^"\\?]|\\[0-3][0-7]{2})*"', line)
        read = ast.literal_eval(f"b{line.strip()}")
        assert read.decode() == name

  @pytest.mark.parametrize("language", ["java", "kt"])
  def test_names_stay_inside_the_strings_of_android(self, language):
    interface = android_snippets.Interface(
      "s", "i", "o", (1, 4), (1, len(HOSTILE_NAMES))
    )
    made = android_snippets.snippets("../../x", interface, None, HOSTILE_NAMES)
    # Neither does the model's name lead anywhere.
    assert set(made) == {"XModel.kt", "XModel.java"}
    text = made[f"XModel.{language}"]
    (line,) = [each for each in text.splitlines() if " LABELS = " in each]
    found = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", line)
    assert set(outside.split("LABELS =")[1]) <= set("arrayOf{}(), ;")
    if language == "kt":
      assert not re.search(r"(?<!\\)\$", line)
      found = [each.replace("\\$", "$") for each in found]
    # An escape of Java's begins at an odd number of backslashes only.
    assert [json.loads(f'"{each}"') for each in found] == list(HOSTILE_NAMES)


def test_files_packed_with_a_model_are_never_written(tmp_path, monkeypatch, capsys):
  inside = tmp_path / "a" / "b"
  inside.mkdir(parents=True)
  monkeypatch.chdir(inside)
  names = ("../x", "/tmp/fedtiny_x", "labels.txt", "a/../../../y", "\x1b[2Jz")
  content = models.converted("fp32_dense", 0.1)
  packed = associated_files.append(content, dict.fromkeys(names, b"x"))
  (inside / "m.tflite").write_bytes(packed)
  before = support.snapshot(tmp_path)
  arguments = ["inspect.py", "m.tflite"]
  with support.fresh_flags():
    assert app.run_app(inspect.main, "", {}, arguments, ["FILE.tflite"]) == 0
  assert support.snapshot(tmp_path) == before
  told = "".join(capsys.readouterr())
  assert "1×1 convolutions" in told and "\x1b" not in told
