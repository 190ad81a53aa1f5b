"""The committed BUILD files are what the imports say; the generator's rules."""

import pathlib
import re

import pytest

from tools import build_dependencies, build_files

ROOT = pathlib.Path(__file__).resolve().parents[1]


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
  folders = {name.split("/")[0] for name in contents} - {"BUILD"}
  found = {path for folder in folders for path in (ROOT / folder).rglob("BUILD")}
  assert found == {ROOT / name for name in set(contents) - {"BUILD"}}


def test_targets_that_the_guide_names_are_there():
  guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
  named = re.findall(r"//(\w+):([\w/]+)", guide)
  assert len(named) >= 2
  for folder, name in named:
    text = (ROOT / folder / "BUILD").read_text(encoding="utf-8")
    assert f'    name = "{name}",\n' in text, name


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
  assert (
    'name = "errors",\n    srcs = ["errors.py"],\n    deps = [":__init__"],\n'
    in (contents["fedtiny_tff/BUILD"])
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
  assert 'name = "core/masks_test",\n    size = "small",' in test
  assert 'main = "//:tools/pytest_main.py",' in test
  assert 'args = ["$(rootpath core/masks_test.py)"]' in test
  dependencies = test.split("deps = [")[1].split()
  assert dependencies == [
    *('":conftest",', '":core/support",', '"@pypi_dev//pytest",', "],")
  ]


def test_size_and_tags_come_from_all_that_a_test_needs(tmp_path):
  root = _checkout(
    tmp_path,
    {
      "fedtiny_tff/masks.py": "import tensorflow as tf\n",
      "tests/support.py": "ROOT = __file__\nfrom fedtiny_tff import masks\n",
      "tests/masks_test.py": "from tests import support\n",
      "benchmarks/rounds_under_test.py": "",
    },
  )
  contents = build_files.build_files(root)
  test = contents["tests/BUILD"].split("py_test(\n")[1]
  assert 'size = "medium",' in test
  assert 'tags = [\n        "external",\n        "local",\n    ],' in test
  assert "py_test" not in contents["benchmarks/BUILD"]


def test_a_ring_is_visible_to_the_rings_that_may_import_it(tmp_path):
  root = _checkout(
    tmp_path,
    {
      "fedtiny_tff/masks.py": "",
      "fedtiny_tff/strategies/snip.py": "from fedtiny_tff import masks\n",
      "tests/masks_test.py": "",
    },
  )
  contents = build_files.build_files(root)
  visible = {name: re.findall("//.*:__pkg__", text) for name, text in contents.items()}
  assert visible["fedtiny_tff/strategies/BUILD"] == [
    "//benchmarks:__pkg__",
    "//fedtiny_tff/federated:__pkg__",
    "//pipelines:__pkg__",
    "//tests:__pkg__",
  ]
  assert "//tflite_export:__pkg__" in visible["fedtiny_tff/BUILD"]
  assert "//:__pkg__" not in visible["fedtiny_tff/BUILD"]
  assert '["//visibility:private"]' not in contents["fedtiny_tff/BUILD"]
  assert '    "//visibility:private",' in contents["tests/BUILD"]


def test_a_package_has_a_target_of_all_its_modules(tmp_path):
  root = _checkout(
    tmp_path,
    {"fedtiny_tff/masks.py": "", "fedtiny_tff/strategies/snip.py": ""},
  )
  contents = build_files.build_files(root)
  assert (
    'name = "fedtiny_tff",\n    deps = [":masks"],' in contents["fedtiny_tff/BUILD"]
  )
  assert (
    'name = "strategies",\n    deps = [":snip"],'
    in (contents["fedtiny_tff/strategies/BUILD"])
  )


def test_a_package_that_gathers_its_modules_is_no_circle(tmp_path):
  root = _checkout(
    tmp_path,
    {
      "fedtiny_tff/strategies/__init__.py": "from fedtiny_tff.strategies import base\n",
      "fedtiny_tff/strategies/base.py": "",
      "fedtiny_tff/strategies/snip.py": "from . import base\n",
    },
  )
  content = build_files.build_files(root)["fedtiny_tff/strategies/BUILD"]
  assert 'name = "__init__",\n    srcs = ["__init__.py"],' in content
  assert content.count('deps = [":base"]') == 1
  assert 'srcs = ["base.py"],\n)' in content
  assert 'deps = [\n        ":__init__",\n        ":base",\n    ],' in content


def test_a_circle_is_reported(tmp_path, capsys):
  root = _checkout(
    tmp_path,
    {
      "fedtiny_tff/a.py": "from fedtiny_tff import b\n",
      "fedtiny_tff/b.py": "def f():\n  import fedtiny_tff.a\n",
    },
  )
  with pytest.raises(build_dependencies.BuildFilesError, match=r"circle: .*a -> .*b"):
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
