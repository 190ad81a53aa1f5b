"""What mkdocs is told besides mkdocs.yml: pages from outside docs/, and their links.

README.md and its neighbours are pages of the site as well, and links are written for the
repository. So that both hold, links are changed here, where the site is built.
"""

import json
import pathlib
import posixpath
import re
from collections.abc import Mapping
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = "docs/"
# Files of the checkout that are pages of the site, by their name there.
PAGES = {
  "README.md": "index.md",
  "CONTRIBUTING.md": "contributing.md",
  "CHANGELOG.md": "changelog.md",
  "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(!?)\[((?:[^\]\[]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^( *)(```+|~~~+)")


def place(path: str) -> str:
  """Returns where a file of the checkout is on the site, or nothing."""
  if path in PAGES:
    return PAGES[path]
  if path.startswith(DOCS) and (ROOT / path).is_file():
    return re.sub(r"\.ipynb$", ".md", path.removeprefix(DOCS))
  return ""


def relinked(text: str, source: str) -> str:
  """Changes the links of a page from those of the repository to those of the site.

  Args:
    text: The page's Markdown.
    source: Its file, relative to the checkout.

  Returns:
    The same, where a link to what is not on the site is only its text.
  """
  here = posixpath.dirname(place(source) or source.removeprefix(DOCS))

  def changed(match: re.Match[str]) -> str:
    picture, words, target = match.groups()
    path, mark, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
      return match[0]
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    found = place(wanted)
    if not found:
      return words if (ROOT / wanted).exists() else match[0]
    return f"{picture}[{words}]({posixpath.relpath(found, here or '.')}{mark}{anchor})"

  return "\n".join(
    line if inside else _LINK.sub(changed, line)
    for line, inside in _with_fences(text.split("\n"))
  )


def _with_fences(lines: list[str]) -> list[tuple[str, bool]]:
  """Tells of each line whether it is part of a block of code."""
  told = []
  fence = ""
  for line in lines:
    found = _FENCE.match(line)
    told.append((line, bool(fence or found)))
    if found and not fence:
      fence = found[2]
    elif fence and line.strip() == fence:
      fence = ""
  return told


def notebook_page(content: str) -> str:
  """Returns the Markdown of a notebook: its text, its code, and what it printed."""
  parts = []
  for cell in json.loads(content)["cells"]:
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
      parts.append(source)
      continue
    parts.append(f"```python\n{source}\n```")
    parts += [
      f"```text\n{text.rstrip()}\n```"
      for text in map(_printed, cell["outputs"])
      if text
    ]
  return "\n\n".join(parts) + "\n"


def _printed(output: Mapping[str, Any]) -> str:
  text = output.get("text") or output.get("data", {}).get("text/plain") or ""
  return "".join(text)


def on_files(files: Any, config: Any) -> Any:
  """Adds the pages from outside docs/ and those of notebooks."""
  from mkdocs.structure.files import File  # noqa: PLC0415 - only there in its environment

  for name, uri in PAGES.items():
    if (ROOT / name).is_file():
      text = relinked((ROOT / name).read_text(encoding="utf-8"), name)
      files.append(File.generated(config, uri, content=text))
  for path in sorted((ROOT / DOCS).glob("*.ipynb")):
    text = notebook_page(path.read_text(encoding="utf-8"))
    uri = path.with_suffix(".md").name
    source = path.relative_to(ROOT).as_posix()
    files.append(File.generated(config, uri, content=relinked(text, source)))
  return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
  """Changes the links of a page of docs/."""
  if page.file.generated_by:
    return markdown
  return relinked(markdown, DOCS + page.file.src_uri)
