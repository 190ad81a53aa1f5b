"""Text of others inside Markdown: names of models, classes, files and tensors."""

import re

# What begins a tag, an entity, a link, a picture, code, emphasis or a table's cell.
_SPECIAL = re.compile(r"[\\`*\[\]<>&|~]")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def escaped(text: str) -> str:
  """Returns text that Markdown shows as it stands, on one line.

  Nothing in it can end a cell or a heading, make a link or picture, or reach HTML;
  what cannot be printed becomes �.
  """
  one_line = " ".join(text.split())
  printable = "".join(each if each.isprintable() else "�" for each in one_line)
  return _SPECIAL.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), printable)
