"""Lists the licences of the locked packages: what `make licences` runs.

They are read from the metadata of what is installed, and written to docs/licences.md.
`--check` writes nothing: it fails where that page is out of date, or where a licence is
not one that was agreed to.

Exit code: 0 when all is well, 1 when something is not, 2 when a package is not installed.
"""

import argparse
import importlib.metadata
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from tools import licence_terms
from tools.setup_messages import SetupError

PAGE = "docs/licences.md"
# Lock file to what is asked for directly, and what the packages are for.
LOCKS = {
  "requirements.txt": ("requirements.in", "What runs need"),
  "requirements-dev.txt": ("requirements-dev.in", "What only development needs"),
}
_HEAD = """\
# Licences of what it is built on

FedTiny-TFF itself is Apache-2.0. This page is written by `make licences` from the metadata
of the packages that the lock files name, and CI fails where it is out of date or where a
licence is new. All let you use and pass on the packages with your own work as long as their
texts go along; MPL-2.0 also keeps changes to its own files open, and what else there is stands
at the end of a table. Licences are SPDX expressions; with a star, metadata leave the licence
open, and it was read in the package. Packages in bold are asked for directly.

Wheels carry further libraries inside, with their licences beside the code; who passes
wheels on, passes those on with them.
"""


class Package(NamedTuple):
  """A locked package.

  Attributes:
    name: As in the lock file.
    version: Locked.
    licence: An SPDX expression; empty when unknown.
    is_direct: Whether it is asked for, not only needed by another.
    was_read: Whether the licence is from `licence_terms.READ`.
  """

  name: str
  version: str
  licence: str
  is_direct: bool
  was_read: bool


def _normal(name: str) -> str:
  return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, str]:
  """Reads names and versions from the text of a lock file."""
  return dict(re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock, re.M))


def wanted(requirements: str) -> set[str]:
  """Reads the names of what is asked for from the text of a `requirements*.in`."""
  return {_normal(name) for name in re.findall(r"^[\w.-]+", requirements, re.M)}


def packages(
  locked: Mapping[str, str],
  direct: Iterable[str],
  metadata: Callable[
    [str], importlib.metadata.PackageMetadata
  ] = importlib.metadata.metadata,
) -> list[Package]:
  """Looks up the licences of locked packages.

  Args:
    locked: Name to version.
    direct: Names that are asked for.
    metadata: How to learn about an installed package.

  Raises:
    SetupError: One is not installed, or in another version.
  """
  found = []
  names = set(direct)
  for name, version in sorted(locked.items()):
    try:
      held = metadata(name)
    except importlib.metadata.PackageNotFoundError:
      raise SetupError(f"{name} {version} is not installed; run `make setup`") from None
    if held["Version"] != version:
      raise SetupError(
        f"{name} is {held['Version']}, locked is {version}; run `make setup`"
      )
    said = licence_terms.declared(held)
    licence = said or licence_terms.READ.get(name, "")
    found.append(Package(name, version, licence, _normal(name) in names, not said))
  return found


def page(tables: Mapping[str, Sequence[Package]]) -> str:
  """Writes the page.

  Args:
    tables: Packages by the heading they stand under.
  """
  parts = [_HEAD]
  for heading, rows in tables.items():
    lines = ["| package | version | licence |", "| --- | --- | --- |"]
    for row in rows:
      name = f"**{row.name}**" if row.is_direct else row.name
      star = " *" if row.was_read else ""
      lines.append(f"| {name} | {row.version} | {row.licence or 'unknown'}{star} |")
    parts.append(f"## {heading}\n\n{_summary(rows)}\n\n" + "\n".join(lines) + "\n")
    parts += [
      f"{name} is {licence}: {why}.\n"
      for (name, licence), why in licence_terms.EXCEPTIONS.items()
      if name in {row.name for row in rows}
    ]
  return "\n".join(parts)


def _summary(rows: Sequence[Package]) -> str:
  counts: dict[str, int] = {}
  for row in rows:
    counts[row.licence or "unknown"] = counts.get(row.licence or "unknown", 0) + 1
  ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
  return f"{len(rows)} packages: {', '.join(f'{n} {name}' for name, n in ordered)}."


def problems(tables: Mapping[str, Sequence[Package]], written: str) -> list[str]:
  """Says in a line each what is wrong with licences, or with the page that lists them.

  Args:
    tables: Packages by the heading they stand under.
    written: The page as it is.
  """
  rows = [row for each in tables.values() for row in each]
  found = [
    f"{row.name} {row.version}: its licence is {row.licence or 'unknown'}, which nobody has "
    "agreed to; read it, then add it to ALLOWED, EXCEPTIONS or READ in tools/licence_terms.py, or "
    "replace the package"
    for row in rows
    if not licence_terms.is_allowed(row.name, row.licence)
  ]
  stale = licence_terms.READ.keys() - {row.name for row in rows if row.was_read}
  found += [
    f"{name}: its metadata tell the licence, or it is locked no more; remove it from READ "
    "in tools/licence_terms.py"
    for name in sorted(stale)
  ]
  right, wrong = page(tables).splitlines(), written.splitlines()
  if right != wrong:
    pairs = zip([*right, ""], [*wrong, ""], strict=False)
    line = next(n for n, (one, other) in enumerate(pairs, 1) if one != other or not one)
    found.append(f"{PAGE}:{line}: is out of date; run `make licences`")
  return list(dict.fromkeys(found))


def tables_of(root: pathlib.Path) -> dict[str, list[Package]]:
  """Looks up the licences of a checkout's locked packages, each under one heading.

  Raises:
    SetupError: One is not installed as locked.
  """
  found: dict[str, list[Package]] = {}
  listed: set[str] = set()
  for lock, (requirements, heading) in LOCKS.items():
    locked = pins((root / lock).read_text(encoding="utf-8"))
    direct = wanted((root / requirements).read_text(encoding="utf-8"))
    rest = {name: locked[name] for name in locked if name not in listed}
    found[heading] = packages(rest, direct)
    listed |= locked.keys()
  return found


def main(arguments: Optional[Sequence[str]] = None) -> int:
  """Writes or checks the page of the checkout this file is in; returns the exit code."""
  root = pathlib.Path(__file__).resolve().parents[1]
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--check", action="store_true", help="write nothing")
  is_check = parser.parse_args(arguments).check
  try:
    tables = tables_of(root)
  except SetupError as error:
    print(f"licences: {error}", file=sys.stderr)
    return 2
  if not is_check:
    (root / PAGE).write_text(page(tables), encoding="utf-8")
  path = root / PAGE
  found = problems(tables, path.read_text(encoding="utf-8") if path.is_file() else "")
  for line in found:
    print(f"licences: {line}", file=sys.stderr)
  if not found:
    print(f"licences: those of {sum(map(len, tables.values()))} packages are agreed to")
  return 1 if found else 0


if __name__ == "__main__":
  sys.exit(main())
