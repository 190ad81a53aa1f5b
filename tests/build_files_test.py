"""The committed BUILD files are what the imports say; the generator's rules."""

import pathlib

import pytest

from tools import build_files

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCKED = {"tensorflow", "absl-py", "protobuf", "ai-edge-litert"}


def _checkout(root: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
  (root / "requirements.txt").write_text("tensorflow==2.14.1 \\\n    --hash=x\n")
  (root / "requirements-dev.txt").write_text("pytest==9.1.1\n")
  for name, source in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
  return root


def test_the_committed_files_are_up_to_date():
  contents = build_files.build_files(ROOT)
  stale = [
    name
    for name, content in contents.items()
    if not (ROOT / name).is_file()
    or (ROOT / name).read_text(encoding="utf-8") != content
  ]
  assert not stale, f"run `make build-files`: {stale} differ from the imports"


def test_a_library_names_its_package_and_what_it_imports(tmp_path):
  root = _checkout(
    tmp_path,
    {
      "fedtiny_tff/__init__.py": "",
      "fedtiny_tff/errors.py": "import os\n",
      "fedtiny_tff/models/__init__.py": "",
      "fedtiny_tff/models/cnn.py": (
        "import tensorflow as tf\nfrom fedtiny_tff.errors import InputError\n"
      ),
      "pipelines/run.py": "def f():\n  from fedtiny_tff.models import cnn\n",
    },
  )
  contents = build_files.build_files(root)
  assert set(contents) == {"fedtiny_tff/BUILD", "pipelines/BUILD"}
  assert (
    "py_library(\n"
    '    name = "models/cnn",\n'
    '    srcs = ["models/cnn.py"],\n'
    "    deps = [\n"
    '        ":__init__",\n'
    '        ":errors",\n'
    '        ":models/__init__",\n'
    '        "@pypi//tensorflow",\n'
    "    ],\n)\n"
  ) in contents["fedtiny_tff/BUILD"]
  assert 'name = "errors",\n    srcs = ["errors.py"],\n    deps = [":__init__"],\n' in (
    contents["fedtiny_tff/BUILD"]
  )
  assert 'deps = ["//fedtiny_tff:models/cnn"]' in contents["pipelines/BUILD"]


def test_tests_run_under_pytest_with_their_support_modules(tmp_path):
  root = _checkout(
    tmp_path,
    {
      "tests/conftest.py": "import pytest\n",
      "tests/core/support.py": "",
      "tests/core/masks_test.py": "from tests.core import support\n",
    },
  )
  content = build_files.build_files(root)["tests/BUILD"]
  assert content.count("testonly = True,") == 2
  test = content.split("py_test(\n")[1].split("\n)\n")[0]
  assert 'name = "core/masks_test",\n    main = "//:tools/pytest_main.py",' in test
  assert 'args = ["$(rootpath core/masks_test.py)"]' in test
  dependencies = test.split("deps = [")[1].split()
  assert dependencies == ['":conftest",', '":core/support",', '"@pypi//pytest",', "],"]


def test_a_package_that_gathers_its_modules_is_no_circle(tmp_path):
  root = _checkout(
    tmp_path,
    {
      "fedtiny_tff/strategies/__init__.py": "from fedtiny_tff.strategies import base\n",
      "fedtiny_tff/strategies/base.py": "",
      "fedtiny_tff/strategies/snip.py": "from . import base\n",
    },
  )
  content = build_files.build_files(root)["fedtiny_tff/BUILD"]
  assert content.count('deps = [":strategies/base"]') == 2


def test_a_circle_is_reported(tmp_path, capsys):
  root = _checkout(
    tmp_path,
    {
      "fedtiny_tff/a.py": "from fedtiny_tff import b\n",
      "fedtiny_tff/b.py": "def f():\n  import fedtiny_tff.a\n",
    },
  )
  with pytest.raises(build_files.BuildFilesError, match=r"circle: .*a -> .*b"):
    build_files.build_files(root)
  assert build_files.main(root) == 2
  assert capsys.readouterr().err.count("\n") == 1
  assert not (root / "fedtiny_tff" / "BUILD").exists()


def test_only_what_changed_is_written(tmp_path, capsys):
  root = _checkout(tmp_path, {"pipelines/run.py": "", "tools/a.py": ""})
  assert build_files.main(root) == 0
  assert capsys.readouterr().out.count("wrote") == 2
  (root / "pipelines" / "run.py").write_text("import tensorflow\n")
  assert build_files.main(root) == 0
  assert capsys.readouterr().out == "build-files: wrote pipelines/BUILD\n"


@pytest.mark.parametrize(
  ("name", "label"),
  [
    ("tensorflow.keras.layers", ["@pypi//tensorflow"]),
    ("absl.flags", ["@pypi//absl_py"]),
    ("google.protobuf.message", ["@pypi//protobuf"]),
    ("ai_edge_litert.interpreter", ["@pypi//ai_edge_litert"]),
    ("json.decoder", []),
  ],
)
def test_imported_names_become_installed_packages(name, label):
  assert build_files.external_labels(pathlib.Path("a.py"), [name], LOCKED) == label


def test_an_optional_import_is_no_dependency():
  labels = build_files.external_labels(
    pathlib.Path("a.py"), ["tensorflow_datasets", "absl.flags"], LOCKED
  )
  assert labels == ["@pypi//absl_py"]


@pytest.mark.parametrize("name", ["torch.nn", "google.cloud.storage"])
def test_an_unlocked_import_is_reported(name):
  with pytest.raises(build_files.BuildFilesError, match=r"a\.py: .* lock file"):
    build_files.external_labels(pathlib.Path("a.py"), [name], LOCKED)
