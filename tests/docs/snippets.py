"""Finds what README and the pages of docs/ tell their readers to type."""

import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Languages whose blocks are only shown: outputs, formats, fragments of other files.
SHOWN = ("text", "json")
# Languages whose blocks run, or say in front of them why they cannot.
TYPED = ("sh", "python", "flags", "cpp")
# Pages whose own tests run everything on them.
ELSEWHERE = {
  "docs/own_data.md": "tests/docs/own_data_test.py",
  "docs/own_strategy.md": "tests/docs/own_strategy_test.py",
  "docs/python_api.md": "tests/docs/python_api_test.py",
}
_FENCE = re.compile(
  r"(?:^ *<!-- (?P<marker>[\w ]+): (?P<reason>[^\n]*?) -->\n)?"
  r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
  re.DOTALL | re.MULTILINE,
)
_INLINE = re.compile(r"`((?:python|\.venv/bin/python) -m [^`]+|make [a-z][^`]*)`")


class Block(NamedTuple):
  """A fenced block of code.

  Attributes:
    page: Its file, relative to the checkout.
    line: Of its fence, from 1.
    language: As the fence says.
    text: Without the fence's indent.
    marker: "not run", "parsed only" or nothing.
    reason: Why.
  """

  page: str
  line: int
  language: str
  text: str
  marker: str
  reason: str

  @property
  def place(self) -> str:
    """Returns where it is, for people."""
    return f"{self.page}:{self.line}"


def pages() -> list[str]:
  """Lists README, its neighbours and the pages of docs/."""
  found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
  return sorted(path.relative_to(ROOT).as_posix() for path in found)


def blocks_of(text: str, page: str) -> list[Block]:
  """Lists the fenced blocks of a page."""
  found = []
  for match in _FENCE.finditer(text):
    indent = match["indent"]
    lines = [line.removeprefix(indent) for line in match["text"].splitlines(True)]
    number = text.count("\n", 0, match.start("language")) + 1
    found.append(
      Block(
        page, number, match["language"], "".join(lines),
        match["marker"] or "", match["reason"] or "",
      )
    )  # fmt: skip
  return found


def blocks() -> list[Block]:
  """Lists the blocks of all pages."""
  return [
    block
    for page in pages()
    for block in blocks_of((ROOT / page).read_text(encoding="utf-8"), page)
  ]


def lines_of(text: str) -> list[str]:
  """Lists the commands of a block of shell, each on one line."""
  joined = text.replace("\\\n", " ")
  lines = (re.sub(r"(?:^|\s)#.*", "", line).strip() for line in joined.splitlines())
  return [line for line in lines if line]


def inline(page: str) -> Iterator[str]:
  """Yields the commands within the text of a page."""
  text = (ROOT / page).read_text(encoding="utf-8")
  prose = _FENCE.sub("", text)
  # What the generated list shows are messages.
  prose = prose.split("## Every message")[0]
  for command in _INLINE.findall(prose):
    yield " ".join(command.split()).replace("\\|", "|")


def words(command: str) -> list[str]:
  """Splits a command as a shell does; the interpreter has one name."""
  found = shlex.split(command)
  if found and found[0] in (".venv/bin/python", "python3"):
    found[0] = "python"
  if found[:1] == ["fedtiny"]:
    is_command = len(found) > 1 and not found[1].startswith("-")
    module = f"pipelines.{found.pop(1)}" if is_command else "pipelines"
    found[:1] = ["python", "-m", module]
  return found
