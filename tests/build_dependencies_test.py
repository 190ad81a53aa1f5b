"""Which targets of Bazel a module's imports are."""

import pathlib
import re
import sys

import pytest

from tools import build_dependencies, imports

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCKED = {
  **dict.fromkeys(("tensorflow", "absl-py", "protobuf", "ai-edge-litert"), "pypi"),
  "pytest": "pypi_dev",
}


@pytest.mark.parametrize(
  ("name", "label"),
  [
    ("tensorflow.keras.layers", ["@pypi//tensorflow"]),
    ("absl.flags", ["@pypi//absl_py"]),
    ("google.protobuf.message", ["@pypi//protobuf"]),
    ("ai_edge_litert.interpreter", ["@pypi//ai_edge_litert"]),
    ("pytest", ["@pypi_dev//pytest"]),
    ("json.decoder", []),
  ],
)
def test_imported_names_become_installed_packages(name, label):
  path = pathlib.Path("a.py")
  assert build_dependencies.external_labels(path, [name], LOCKED) == label


def test_an_optional_import_is_no_dependency():
  labels = build_dependencies.external_labels(
    pathlib.Path("a.py"), ["tensorflow_datasets", "absl.flags"], LOCKED
  )
  assert labels == ["@pypi//absl_py"]


@pytest.mark.parametrize("name", ["torch.nn", "google.cloud.storage"])
def test_an_unlocked_import_is_reported(name):
  with pytest.raises(build_dependencies.BuildFilesError, match=r"a\.py: .* lock file"):
    build_dependencies.external_labels(pathlib.Path("a.py"), [name], LOCKED)


def test_every_package_that_a_build_file_names_is_locked():
  locked = build_dependencies.repositories(ROOT)
  known = {
    f"@{repository}//{re.sub('[-.]', '_', name)}" for name, repository in locked.items()
  }
  named = {
    label
    for path in ROOT.rglob("BUILD")
    if ".venv" not in path.parts
    for label in re.findall(r'"(@pypi\w*//\w+)"', path.read_text(encoding="utf-8"))
  }
  assert {"@pypi//tensorflow", "@pypi_dev//pytest"} <= named <= known


def test_what_both_locks_have_is_the_same_version():
  versions = []
  for lock in build_dependencies.LOCKS.values():
    text = (ROOT / lock).read_text(encoding="utf-8")
    versions.append(dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)))
  main, dev = versions
  both = main.keys() & dev.keys()
  assert both
  assert {name: main[name] for name in both} == {name: dev[name] for name in both}


def _undeclared(sources, declared):
  """Lists packages that the product imports but does not ask for, and the reverse."""
  imported = {
    build_dependencies.distribution(each.name)
    for path, source in sources.items()
    for each in imports.imports(source, path)
    if each.name.split(".")[0] not in {*sys.stdlib_module_names, *imports.CODE_FOLDERS}
  }
  return imported ^ declared


def test_the_product_asks_for_what_it_imports():
  declared = {
    name.lower()
    for path in (ROOT / "requirements.in", ROOT / "requirements-tracking.in")
    for name in re.findall(r"^([\w-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
  }
  # Shows what a run writes; Pillow and mlflow come with the trackers; data of
  # tensorflow-datasets is for those who have it.
  declared ^= {
    "tensorboard",
    "pillow",
    "mlflow",
    "mlflow-skinny",
    "tensorflow-datasets",
  }
  paths = [
    path
    for path in imports.source_files(ROOT)
    if path.parts[0] in ("fedtiny_tff", "tflite_export", "pipelines")
  ]
  sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in paths}
  assert not _undeclared(sources, declared)
  path = pathlib.PurePath("pipelines/x.py")
  assert _undeclared({**sources, path: "import torch"}, declared) == {"torch"}
  assert _undeclared(sources, declared | {"keras-nlp"}) == {"keras-nlp"}


def _names(root, sources):
  files = {}
  for name, source in sources.items():
    path = pathlib.Path(name)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(source)
    if path.suffix == ".py":
      files[build_dependencies.imports.module_name(path)] = path
  return build_dependencies.imported_names(root, files)


@pytest.mark.parametrize(
  ("source", "late"),
  [
    ("import fedtiny_tff\n", {"fedtiny_tff.a.A", "fedtiny_tff.b.B"}),
    ("from fedtiny_tff import A\n", {"fedtiny_tff.a.A"}),
    ("from fedtiny_tff import b\n", set()),
  ],
)
def test_a_name_that_its_package_loads_late_is_an_import(tmp_path, source, late):
  names = _names(
    tmp_path,
    {
      "fedtiny_tff/__init__.py": "",
      "fedtiny_tff/__init__.pyi": (
        "from fedtiny_tff.a import A as A\nfrom fedtiny_tff.b import B as B\n"
      ),
      "fedtiny_tff/a.py": "import fedtiny_tff\n",
      "tests/a_test.py": source,
    },
  )
  assert names["tests.a_test"] & {"fedtiny_tff.a.A", "fedtiny_tff.b.B"} == late
  # Within the package that would be a circle.
  assert names["fedtiny_tff.a"] == {"fedtiny_tff"}


def test_a_test_imports_what_a_string_names(tmp_path):
  source = "START = ['-m', 'pipelines.run', 'pipelines.nothing']\n"
  sources = {
    "pipelines/run.py": "",
    "pipelines/a.py": source,
    "tests/a_test.py": source,
  }
  names = _names(tmp_path, sources)
  assert names["tests.a_test"] == {"pipelines.run"}
  assert names["pipelines.a"] == set()


def test_what_is_needed_through_others_is_needed():
  needed = {"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a"}}
  assert build_dependencies.closure("a", needed) == {"a", "b", "c"}
  assert build_dependencies.closure("c", needed) == {"c"}
