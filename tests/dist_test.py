"""The source distribution and the wheel hold what is tracked, and say what they need."""

import email
import pathlib
import re
import shutil
import subprocess
import tarfile
import tomllib
import zipfile

import pytest

from fedtiny_tff.version import VERSION
from tools import dist
from tools.setup_messages import SetupError

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# All that the metadata are made of.
_DESCRIBING = ["pyproject.toml", "README.md", "LICENSE", "fedtiny_tff/version.py"]
_DESCRIBING += [f"{name}/__init__.py" for name in dist.PACKAGES]
_DESCRIBING += [path.name for path in ROOT.glob("requirements*.in")]


@pytest.fixture(name="metadata", scope="module")
def fixture_metadata(tmp_path_factory):
  folder = tmp_path_factory.mktemp("described")
  for name in _DESCRIBING:
    (folder / name).parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / name, folder / name)
  (folder / "made").mkdir()
  dist.call_backend("prepare_metadata_for_build_wheel", folder, folder / "made")
  (path,) = folder.glob("made/*/METADATA")
  return email.message_from_bytes(path.read_bytes())


@pytest.mark.slow
def test_both_hold_what_is_tracked(tmp_path):
  made = dist.build(ROOT, tmp_path)
  assert [path.name for path in made] == [
    f"fedtiny_tff-{VERSION}.tar.gz",
    f"fedtiny_tff-{VERSION}-py3-none-any.whl",
  ]
  tracked = dist.tracked_files(ROOT)
  assert dist.problems(*made, tracked) == []
  # What modules read lies beside them, as in a checkout.
  data = {name for name in dist.wheel_names(made[1]) if not name.endswith(".py")}
  assert data >= {
    "pipelines/presets/digits.flags",
    "pipelines/report.schema.json",
    "pipelines/report_page/templates/page.html",
    "tflite_export/devices/kotlin/Philox.kt",
  }
  assert dist.problems(*made, [*tracked, "pipelines/new.flags"]) == [
    f"{path.name} lacks pipelines/new.flags; include it in MANIFEST.in" for path in made
  ]


def _archives(folder, sdist, wheel):
  with tarfile.open(folder / "x-1.tar.gz", "w:gz") as archive:
    for name in sdist:
      archive.addfile(tarfile.TarInfo(f"x-1/{name}"))
  with zipfile.ZipFile(folder / "x-1.whl", "w") as archive:
    for name in wheel:
      archive.writestr(name, "")
  return folder / "x-1.tar.gz", folder / "x-1.whl"


TRACKED = [
  "Makefile",
  "pipelines/BUILD",
  "pipelines/a.py",
  "pipelines/b.flags",
  "tests/c.py",
]
SDIST = [*TRACKED, "PKG-INFO", "setup.cfg", "x.egg-info/SOURCES.txt"]
WHEEL = ["pipelines/a.py", "pipelines/b.flags", "x-1.dist-info/METADATA"]


@pytest.mark.parametrize(
  ("sdist", "wheel", "said"),
  [
    (SDIST, WHEEL, []),
    (
      [name for name in SDIST if name != "Makefile"],
      WHEEL,
      ["x-1.tar.gz lacks Makefile; include it in MANIFEST.in"],
    ),
    ([*SDIST, "runs/d"], WHEEL, ["x-1.tar.gz holds runs/d; exclude it in MANIFEST.in"]),
    (SDIST, WHEEL[:1], ["x-1.whl lacks pipelines/b.flags; include it in MANIFEST.in"]),
    (
      SDIST,
      [*WHEEL, "pipelines/BUILD", "tests/c.py"],
      [
        "x-1.whl holds pipelines/BUILD; exclude it in MANIFEST.in",
        "x-1.whl holds tests/c.py; exclude it in MANIFEST.in",
      ],
    ),
  ],
)
def test_too_much_and_too_little_are_found(sdist, wheel, said, tmp_path):
  sdist_path, wheel_path = _archives(tmp_path, sdist, wheel)
  assert dist.problems(sdist_path, wheel_path, TRACKED) == said


def _required(name):
  lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
  return {line.replace(" ", "") for line in lines if line and not line.startswith("#")}


def test_what_is_needed_stands_in_the_requirements(metadata):
  lines = [each.partition("; extra == ") for each in metadata.get_all("Requires-Dist")]
  needed = {
    extra: {name for name, _, said in lines if said.strip('"') == extra}
    for extra in ("", "dev", "docs", "tracking")
  }
  assert sum(map(len, needed.values())) == len(lines)
  assert needed == {
    "": _required("requirements.in"),
    "dev": _required("requirements-dev.in"),
    "docs": _required("requirements-docs.in"),
    "tracking": _required("requirements-tracking.in"),
  }
  assert set(metadata.get_all("Provides-Extra")) == {"dev", "docs", "tracking"}


def test_the_metadata(metadata):
  assert metadata["Version"] == VERSION
  assert metadata["License-Expression"] == "Apache-2.0"
  assert metadata["License-File"] == "LICENSE"
  assert metadata["Requires-Python"] == "<3.12,>=3.11"
  assert "Typing :: Typed" in metadata.get_all("Classifier")
  readme = (ROOT / "README.md").read_text(encoding="utf-8")
  description = metadata.get_payload(decode=True).decode()
  assert description.strip() == readme.strip()
  # As nothing can resolve TFF's pins, the description must say what works.
  section = description.partition("## Without the checkout")[2]
  (fence,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
  assert [line.split()[2:] for line in fence.splitlines()] == [
    ["--no-deps", "-r", "requirements.txt"],
    ["--no-deps", "dist/*.whl"],
  ]
  assert "jaxlib==0.4.14" in description


def test_the_locked_setuptools_is_one_that_the_project_takes():
  (wanted,) = PROJECT["build-system"]["requires"]
  (least,) = re.findall(r"^setuptools>=([\d.]+)$", wanted)
  lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
  (locked,) = re.findall(r"^setuptools==([\d.]+)", lock, re.M)
  assert [*map(int, locked.split("."))] >= [*map(int, least.split("."))]


def _checkout(folder, names):
  for name in names:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
  return folder


def test_files_of_a_checkout_are_those_that_git_tracks(tmp_path):
  root = _checkout(tmp_path, ["a.py", "tests/b.py", "runs/c", "notes.txt", "gone.py"])
  git = ["git", "-C", str(root)]
  subprocess.run([*git, "init", "--quiet"], check=True)
  subprocess.run([*git, "add", "a.py", "tests", "gone.py"], check=True)
  (root / "gone.py").unlink()
  assert dist.tracked_files(root) == ["a.py", "tests/b.py"]


def test_files_without_git_are_all_but_what_is_made(tmp_path):
  made = [
    "runs/a",
    "build/b",
    ".venv/c",
    "x.egg-info/d",
    "tests/__pycache__/e",
    "PKG-INFO",
  ]
  kept = [".ci/run", "docs/runs/a.md", "pipelines/presets/x.flags"]
  assert dist.tracked_files(_checkout(tmp_path, [*made, *kept])) == kept


def test_a_backend_that_fails_is_told(tmp_path, capfd):
  root = _checkout(tmp_path / "root", ["pyproject.toml"])
  (root / "pyproject.toml").write_text("[project]\nname = 3\n")
  with pytest.raises(SetupError, match=r"at build_sdist; mend pyproject\.toml"):
    dist.build(root, tmp_path / "out")
  assert "invalid pyproject.toml" in capfd.readouterr().err
  assert not (tmp_path / "out").exists()
