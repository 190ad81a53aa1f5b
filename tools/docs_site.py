"""Builds the documentation's site: what `make docs` runs.

mkdocs lives in an environment of its own (`.cache/docs/`): its packages are of no use to
a run, whose lock and advisories they would make longer. The site is built strictly, every
warning being an error, and must load nothing from elsewhere.

Exit code: 0 when it was built, 1 when something is wrong with it, 2 when mkdocs could not
be installed.
"""

import html.parser
import os
import pathlib
import re
import subprocess
import sys
from typing import Optional

from tools import own_environment
from tools.setup_messages import SetupError

FOLDER = ".cache/docs"
LOCK = "requirements-docs.txt"
SITE = "build/site"
_LOADING = {"src", "srcset", "poster", "data"}
_LOADED_LINKS = {
  "stylesheet",
  "icon",
  "preload",
  "preconnect",
  "dns-prefetch",
  "manifest",
}
_ELSEWHERE = re.compile(r"^\s*(?:https?:)?//")
_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:https?:)?//[^\"')]+)")


class _Loads(html.parser.HTMLParser):
  """Collects what a page loads by itself; what a reader may click is not looked at."""

  def __init__(self) -> None:
    super().__init__()
    self.found: list[str] = []

  def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
    """Notes the addresses of one element."""
    given = {name: value or "" for name, value in attrs}
    loads = [given[name] for name in _LOADING & given.keys()]
    if tag == "link" and _LOADED_LINKS & set(given.get("rel", "").split()):
      loads.append(given.get("href", ""))
    self.found += [each for each in loads if _ELSEWHERE.match(each)]
    self.found += _CSS.findall(given.get("style", ""))
    # For these the theme's script fetches something when the page is shown.
    if "mermaid" in given.get("class", "").split():
      self.found.append("a library for its diagrams: draw an SVG")
    if given.get("data-md-component") == "source":
      self.found.append("figures of the repository: leave repo_url out")


def external_loads(site: pathlib.Path) -> list[str]:
  """Lists what pages and style sheets of a site would load from elsewhere."""
  found = []
  for path in sorted(site.rglob("*")):
    if path.suffix == ".css":
      loads = _CSS.findall(path.read_text(encoding="utf-8"))
    elif path.suffix == ".html":
      parser = _Loads()
      parser.feed(path.read_text(encoding="utf-8"))
      loads = parser.found
    else:
      continue
    found += [f"{path.relative_to(site)}: loads {each}" for each in loads]
  return found


def build(root: pathlib.Path, site: pathlib.Path) -> list[str]:
  """Builds the site of a checkout.

  Args:
    root: The checkout.
    site: Where to write it.

  Returns:
    What is wrong with it, a line each.

  Raises:
    SetupError: mkdocs could not be installed.
  """
  python = own_environment.prepare(root, FOLDER, LOCK)
  command = [str(python), "-m", "mkdocs", "build", "--strict"]
  # The theme's advertisement of another generator is no news to a reader.
  environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(root)}
  done = subprocess.run(
    [*command, "--site-dir", str(site)],
    capture_output=True,
    text=True,
    stdin=subprocess.DEVNULL,
    cwd=root,
    env=environment,
    check=False,
  )
  lines = (done.stdout + done.stderr).splitlines()
  # `--quiet` would make mkdocs overlook warnings, also strictly.
  said = [line for line in lines if line.strip() and not line.startswith("INFO ")]
  if done.returncode or said:
    return said or [f"mkdocs ended with {done.returncode}"]
  return external_loads(site)


def main() -> int:
  """Builds the site of the checkout this file is in and returns the exit code."""
  root = pathlib.Path(__file__).resolve().parents[1]
  try:
    problems = build(root, root / SITE)
  except SetupError as error:
    print(f"docs: {error}", file=sys.stderr)
    return 2
  if problems:
    print("\n".join(problems), file=sys.stderr)
    return 1
  print(f"Read it: {SITE}/index.html")
  return 0


if __name__ == "__main__":
  sys.exit(main())
