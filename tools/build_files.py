"""Writes the Bazel BUILD files from the imports: `make build-files`.

One BUILD file per ring, visible to the rings that may import it; in it one
`py_library` per module and one `py_test` per test module, with the dependencies that
the sources really have. `tests/build_files_test.py` fails when a committed file
differs from what this writes.
"""

import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence

from tools import build_dependencies, build_tests, imports, rings
from tools.build_dependencies import BuildFilesError

_DEFS = "@rules_python//python:defs.bzl"
_HEADER = "# Written by `make build-files`; change the imports, not this file."
_TEST_RUNNER = "//:tools/pytest_main.py"
_PYTEST_REPOSITORY = "pypi_dev"
_EXPORTED = (
  *("LICENSE", "pyproject.toml", "tools/pytest_main.py"),
  *build_dependencies.LOCKS.values(),
)


def build_files(root: pathlib.Path) -> dict[str, str]:
  """Returns the content of every BUILD file by its path.

  Args:
    root: The checkout.

  Returns:
    Path relative to root, such as "pipelines/BUILD", to content.

  Raises:
    BuildFilesError: An import is in no lock file, or modules import in a circle.
  """
  files = {imports.module_name(path): path for path in imports.source_files(root)}
  sources = {
    module: (root / path).read_text(encoding="utf-8") for module, path in files.items()
  }
  names = build_dependencies.imported_names(root, files)
  needed = build_dependencies.own_dependencies(files, names)
  others = _others(files, names, build_dependencies.repositories(root))
  contents: dict[str, list[str]] = {}
  for module, path in files.items():
    labels = [_label(files[name], path) for name in needed[module]]
    labels = sorted([*labels, *others[module]])
    if build_dependencies.is_test(path):
      within = build_dependencies.closure(module, needed)
      support = [sources[name] for name in within if name.startswith("tests.")]
      heavy = {label for name in within for label in others[name]}
      rule = _test(
        path,
        labels,
        size=build_tests.size(sources[module], heavy),
        tags=build_tests.tags(sources[module], support),
      )
    else:
      rule = _library(path, labels)
    contents.setdefault(_home(path), []).append(rule)
  for home in contents.keys() - {"tests"}:
    contents[home].append(_package(home, files.values()))
  return {
    f"{home}/BUILD".lstrip("/"): "\n".join([*_opening(home, rules), *rules])
    for home, rules in sorted(contents.items())
  }


def main(root: pathlib.Path) -> int:
  """Writes the files that differ under root and returns the exit code."""
  try:
    contents = build_files(root)
  except (BuildFilesError, SyntaxError) as error:
    print(f"build-files: {error}", file=sys.stderr)
    return 2
  for name, content in contents.items():
    path = root / name
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
      path.write_text(content, encoding="utf-8")
      print(f"build-files: wrote {name}")
  return 0


def _others(
  files: Mapping[str, pathlib.Path],
  names: Mapping[str, set[str]],
  locked: Mapping[str, str],
) -> dict[str, list[str]]:
  """Finds the labels of all that each module imports itself but for modules of ours."""
  found = {}
  for module, path in files.items():
    outside = {
      name
      for name in names[module]
      if build_dependencies.longest_prefix(name, files) is None
    }
    found[module] = build_dependencies.external_labels(path, outside, locked)
    found[module] += build_dependencies.whole_packages(module)
  return found


def _home(path: pathlib.PurePath) -> str:
  """Returns the folder of the BUILD file that describes a source."""
  return _folder(rings.package(imports.module_name(path)) or "")


def _folder(package: str) -> str:
  # The tools have no BUILD file of their own; the one at the top describes them.
  return "" if package == "tools" else package.replace(".", "/")


def _target(path: pathlib.PurePath) -> str:
  return path.with_suffix("").relative_to(_home(path) or ".").as_posix()


def _label(path: pathlib.PurePath, seen_from: pathlib.PurePath) -> str:
  same = _home(path) == _home(seen_from)
  return f"{'' if same else '//' + _home(path)}:{_target(path)}"


def _opening(home: str, rules: Iterable[str]) -> list[str]:
  kinds = "".join(f', "{kind}"' for kind in sorted({r.split("(")[0] for r in rules}))
  importers = rings.importers(home.replace("/", ".") or "tools")
  visible = [f"//{_folder(package)}:__pkg__" for package in sorted(importers)]
  lines = [f'"""Targets of {home or "tools"}."""', "", _HEADER]
  lines += [f'load("{_DEFS}"{kinds})', "", "package(default_visibility = ["]
  lines += [f'    "{label}",' for label in visible or ["//visibility:private"]]
  lines += ["])", ""]
  if not home:
    exported = "".join(f'    "{name}",\n' for name in sorted(_EXPORTED))
    return [*lines, 'licenses(["notice"])', "", f"exports_files([\n{exported}])", ""]
  lines += ["filegroup(", '    name = "package_data",', "    srcs = glob("]
  lines += ['        ["**"],', "        allow_empty = True,"]
  lines += ['        exclude = ["**/*.py", "**/*.pyc", "BUILD"],', "    ),", ")", ""]
  return lines


def _package(home: str, paths: Iterable[pathlib.PurePath]) -> str:
  members = sorted(f":{_target(path)}" for path in paths if _home(path) == home)
  lines = ["py_library(", f'    name = "{home.rpartition("/")[2] or "tools"}",']
  return "\n".join([*lines, *_list_attribute("deps", members), ")", ""])


def _library(path: pathlib.PurePath, labels: Sequence[str]) -> str:
  target = _target(path)
  lines = ["py_library(", f'    name = "{target}",']
  if path.parts[0] == "tests":
    lines.append("    testonly = True,")
  lines += _list_attribute("srcs", [f"{target}.py"])
  if path == pathlib.PurePath(_home(path), "__init__.py") and _home(path):
    lines += _list_attribute("data", [":package_data"])
  return "\n".join([*lines, *_list_attribute("deps", labels), ")", ""])


def _test(
  path: pathlib.PurePath, labels: Sequence[str], size: str, tags: Sequence[str]
) -> str:
  target = _target(path)
  pytest = f"@{_PYTEST_REPOSITORY}//pytest"
  lines = ["py_test(", f'    name = "{target}",', f'    size = "{size}",']
  lines += _list_attribute("srcs", [f"{target}.py", _TEST_RUNNER])
  lines += _list_attribute("args", [f"$(rootpath {target}.py)"])
  lines += _list_attribute("data", [":package_data", "//:pyproject.toml"])
  lines.append(f'    main = "{_TEST_RUNNER}",')
  lines += _list_attribute("tags", tags)
  lines += _list_attribute("deps", sorted({*labels, pytest}))
  return "\n".join([*lines, ")", ""])


def _list_attribute(name: str, values: Sequence[str]) -> list[str]:
  if not values:
    return []
  if len(values) == 1:
    return [f'    {name} = ["{values[0]}"],']
  return [f"    {name} = [", *(f'        "{value}",' for value in values), "    ],"]


if __name__ == "__main__":
  sys.exit(main(pathlib.Path(__file__).resolve().parents[1]))
