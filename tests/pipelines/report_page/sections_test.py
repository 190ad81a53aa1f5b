"""What a page says of runs of every kind: what is there is shown, what is not is told."""

import json
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from benchmarks.made_runs import Shape, make
from fedtiny_tff.errors import InputError
from pipelines.report_page import rendering, run_record, single, writing
from pipelines.runs.run_directory import RunDirectory
from tests.fedtiny_tff import support as core
from tests.pipelines.handmade_reports import artifact

SECTIONS = [
  "summary", "rounds", "selection", "layers", "events", "masks", "labels", "clients",
  "confusion", "sizes", "eligibility", "arena", "parity", "cost", "command",
]  # fmt: skip
_SMALL = Shape(rounds=12, layers=3, clients=5, classes=4, candidates=3, every=3)


def _changed(folder, **changes):
  path = folder / "report.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))
  return folder


def _page(folder):
  return single.page(run_record.read(RunDirectory(folder)))


def _section(folder, key):
  return next(section for section in _page(folder).sections if section.key == key)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path):
  return make(tmp_path / "run", _SMALL)


def test_every_section_is_there(folder):
  page = _page(folder)
  assert [section.key for section in page.sections] == SECTIONS
  shown = {section.key for section in page.sections if section.blocks}
  assert shown == set(SECTIONS) - {"sizes", "eligibility", "arena", "parity"}
  assert all(section.absent for section in page.sections if not section.blocks)


def test_the_same_run_gives_the_same_bytes_wherever_it_is(folder, tmp_path):
  other = make(tmp_path / "elsewhere" / "other", _SMALL)
  assert writing.html([str(folder)]) == writing.html([str(other)])
  assert str(tmp_path) not in writing.html([str(folder)])


@pytest.mark.parametrize(
  "shape",
  [
    Shape(rounds=0, layers=1, clients=1, classes=1, candidates=0, every=0),
    Shape(rounds=1, layers=1, clients=1, classes=0, candidates=1, every=0),
    Shape(rounds=700, layers=120, clients=1_500, classes=70, candidates=400, every=1),
  ],
)
def test_small_and_large_runs_have_pages(tmp_path, shape):
  page = _page(make(tmp_path / "run", shape))
  assert [section.key for section in page.sections] == SECTIONS
  text = rendering.render(page)
  assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", text)
  assert len(text) < 3_000_000


def test_every_event_of_many_rounds_is_marked(tmp_path):
  folder = make(tmp_path / "run", Shape(rounds=2_000, layers=1, every=7))
  text = str(_section(folder, "rounds").blocks[0].svg)
  assert len(re.findall(r"Round [\d,]+: block", text)) == len(range(7, 2_000, 7))


def test_a_run_of_an_earlier_version(folder):
  for name in ("client_labels.csv", "confusion.csv"):
    (folder / name).unlink()
  report = json.loads((folder / "report.json").read_text())
  for name in ("versions", "client_accuracy", "privacy", "secure_aggregation"):
    del report[name]
  del report["cost"]["prunefl"]
  (folder / "report.json").write_text(json.dumps(report))
  page = _page(folder)
  told = {section.key: section.absent for section in page.sections}
  assert "before it was written" in told["labels"]
  assert "before it was written" in told["confusion"]
  assert "not recorded" in told["cost"]
  assert "not recorded" in told["command"]


def test_a_run_of_devices_knows_nothing_of_single_clients(folder):
  report = json.loads((folder / "report.json").read_text())
  report["run"]["device_exchange"] = "exchange"
  (folder / "report.json").write_text(json.dumps(report))
  told = {section.key: section.absent for section in _page(folder).sections}
  assert "Clients were devices" in told["labels"]
  assert "Clients were devices" in told["clients"]


@pytest.mark.parametrize(
  ("kind", "value", "word"),
  [
    ("privacy", {"epsilon": 8.0, "delta": 1e-5}, "differential privacy"),
    (
      "secure_aggregation",
      {"sums": "modular", "bits": 32, "votes": "dense", "extra_upload_bytes": -5},
      "secure aggregation",
    ),
  ],
)
def test_hidden_reports_stay_hidden(folder, kind, value, word):
  _changed(folder, **{kind: value})
  for key in ("labels", "clients"):
    section = _section(folder, key)
    assert not section.blocks
    assert word in section.absent
  assert "client 0" not in rendering.render(_page(folder))
  assert bool(_page(folder).notices) == (kind == "privacy")


def test_an_autoencoder_has_an_auc(tmp_path):
  folder = make(
    tmp_path / "run", Shape(rounds=6, layers=2, clients=3, classes=0, every=2)
  )
  page = _page(folder)
  summary = page.sections[0]
  assert "AUC, sparse" in [card.label for card in summary.blocks[0].cards]
  absent = {section.key for section in page.sections if not section.blocks}
  assert {"labels", "clients", "confusion"} <= absent
  titles = [block.title for block in _section(folder, "rounds").blocks]
  assert titles == ["Loss by round"]


@pytest.mark.parametrize(
  ("recommended", "label", "path"),
  [
    # Reports of earlier versions do not tell.
    ({}, "smallest Android file", "export/android/small.tflite"),
    ({"recommended": True}, "Android file to ship", "export/android/large.tflite"),
  ],
)
def test_the_cards_name_the_file_to_ship(folder, recommended, label, path):
  rows = [
    artifact("export/android/large.tflite", bytes=200, dense_bytes=400, **recommended),
    artifact("export/android/small.tflite", bytes=100, dense_bytes=400),
  ]
  page = _page(_changed(folder, artifacts=rows))
  (card,) = (
    each for each in page.sections[0].blocks[0].cards if "Android" in each.label
  )
  assert card.label == label
  assert card.detail.startswith(f"{path}, 87.50")


def test_nothing_pruned_nothing_selected_nothing_adjusted(folder):
  np.savez_compressed(folder / "model" / "masks.npz", dense=np.ones([3, 3], bool))
  _changed(folder, selection=[], events=[])
  for key in ("selection", "events", "masks"):
    assert _section(folder, key).absent


def test_first_densities_are_led_back_from_events(folder):
  report = json.loads((folder / "report.json").read_text())
  report["layers"] = [{"name": "a", "shape": [10, 10], "density": 0.2, "block": 0}]
  report["events"] = [
    {"round": 3, "block": 0, "layers": [{"name": "a", "dropped": 30, "grown": 10}]},
    {"round": 6, "block": 0, "layers": [{"name": "a", "dropped": 10, "grown": 0}]},
  ]
  # 20 in the end; 20 + 30 - 10 + 10 at first.
  assert run_record.layer_counts(report) == [(100, 50, 20)]


def test_a_lost_exported_file_is_told(folder):
  rows = [artifact("export/mcu/model.tflite")]
  report = json.loads((folder / "report.json").read_text())
  _changed(
    folder, artifacts=rows, accuracy={**report["accuracy"], rows[0]["path"]: 0.9}
  )
  section = _section(folder, "sizes")
  assert "mcu/model.tflite is not there any more" in section.absent
  assert _section(folder, "parity").blocks
  (folder / "export" / "mcu").mkdir(parents=True)
  (folder / "export" / "mcu" / "model.tflite").write_bytes(b"no model")
  assert (
    "cannot be read: the bytes are not a .tflite" in _section(folder, "sizes").absent
  )


def test_a_report_does_not_read_elsewhere(folder, tmp_path):
  (tmp_path / "secret.tflite").write_bytes(b"secret")
  rows = [artifact("export/../../secret.tflite")]
  _changed(folder, artifacts=rows)
  assert "lies outside the run directory" in _section(folder, "sizes").absent


_NAMES = st.text("aZ0 <>&\"'/=;{}%\n\0é汉\u202e😀…", min_size=1, max_size=30)


@hypothesis.given(name=_NAMES)
@hypothesis.settings(parent=core.quick, max_examples=8)
def test_any_name_is_only_text(tmp_path_factory, name):
  folder = make(tmp_path_factory.mktemp("run"), _SMALL)
  report = json.loads((folder / "report.json").read_text())
  plain = rendering.render(_page(folder))
  hostile = f"</script><img src=x onerror=alert(1)>{name}"
  report["layers"][0]["name"] = hostile
  report["dataset"]["classes"][0] = hostile
  report["dataset"]["name"] = hostile
  report["run"]["model"] = hostile
  report["versions"] = {hostile: hostile}
  (folder / "report.json").write_text(json.dumps(report))
  text = rendering.render(_page(folder))
  assert "<img src=x" not in text
  assert text.count("<script") == plain.count("<script") == 1
  assert text.count("<img") == plain.count("<img")


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("clients.csv", "client,examples\n1,2\n"),
    ("confusion.csv", "label,answer,examples\n0,x,1\n"),
    ("client_labels.csv", "client,label,examples\na,-1,3\n"),
    ("model/masks.npz", "no archive"),
  ],
)
def test_damaged_files_are_named(folder, name, content):
  (folder / name).write_text(content)
  with pytest.raises(InputError, match=rf"{name}: cannot be read .*delete it"):
    run_record.read(RunDirectory(folder))


def test_diverged_losses_are_gaps(folder):
  text = (folder / "metrics.csv").read_text().splitlines()
  cells = text[4].split(",")
  cells[1] = "nan"
  text[4] = ",".join(cells)
  (folder / "metrics.csv").write_text("\n".join(text) + "\n")
  assert run_record.read(RunDirectory(folder)).rounds[3].train_loss is None
  assert rendering.render(_page(folder))


def test_the_policy_admits_this_script_and_no_address(folder):
  text = writing.html([str(folder)])
  found = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
  assert found
  policy = found[1]
  assert "default-src &#39;none&#39;" in policy
  assert "unsafe" not in policy
  addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>]{5})""", text)
  assert {each for each in addresses if not each.startswith(("#", "data:"))} == set()
  assert "style=" not in text
