"""All that lies in a folder of examples, and what may be an example of a class."""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

from fedtiny_tff.data.examples import BadRecord
from fedtiny_tff.data.sources import texts

CLASS_DEPTH = 1
CLIENT_DEPTH = 2
# What Windows and macOS leave in folders and archives; their other litter is hidden.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}


class FileKind(NamedTuple):
  """What examples are.

  Attributes:
    name: What one is called, such as "image".
    article: What stands before that: "a" or "an".
    suffixes: What their files' names end in, in small letters.
  """

  name: str
  article: str
  suffixes: tuple[str, ...]

  @property
  def one(self) -> str:
    """Name with its article."""
    return f"{self.article} {self.name}"

  @property
  def many(self) -> str:
    """Name of several."""
    return f"{self.name}s"

  def fits(self, name: str) -> bool:
    """Tells whether a file is one by its name."""
    return name.lower().endswith(self.suffixes)


class ClassFile(NamedTuple):
  """A file that is an example by its name.

  Attributes:
    path: Where it lies.
    folders: Names of the folders that lead to it: (class,) or (client, class).
    named_client: Whose it is, where its own name says so.
  """

  path: str
  folders: tuple[str, ...]
  named_client: Optional[str] = None

  @property
  def class_name(self) -> str:
    """Name of its class."""
    return self.folders[-1]

  @property
  def client(self) -> str:
    """Whose it is; only where its name says so or there are two folders."""
    return self.folders[0] if self.named_client is None else self.named_client


Entry = Union[ClassFile, BadRecord]


class _Other(NamedTuple):
  """What is a bad record only if it lies in a class folder.

  Attributes:
    record: The bad record.
    path: Where it lies.
    depth: How many folders lead to it.
    is_file: Whether it is a file; otherwise an empty folder.
  """

  record: BadRecord
  path: str
  depth: int
  is_file: bool


def visible(folder: Union[str, pathlib.Path]) -> Sequence["os.DirEntry[str]"]:
  """Returns what lies in a folder and may be meant, sorted by name."""
  with os.scandir(folder) as found:
    shown = [
      entry
      for entry in found
      if not entry.name.startswith(".") and entry.name.lower() not in _LITTER
    ]
  return sorted(shown, key=lambda entry: entry.name)


def leads_to_folder(entry: "os.DirEntry[str]") -> bool:
  """Tells whether something is a folder or a link to one; a loop of links is none."""
  try:
    return entry.is_dir()
  except OSError:
    return False


class Walk:
  """What lies in the folder of a split, and below it.

  Attributes:
    folders: Names that lead to each folder that could be read.
  """

  def __init__(self, root: pathlib.Path, kind: FileKind, client_separator: str = ""):
    """Begins with nothing.

    Args:
      root: Links may lead to what is in it.
      kind: What is looked for.
      client_separator: Ends the client's id at the start of each file's name; "" where
        names have no such id.
    """
    self.folders: list[tuple[str, ...]] = []
    self._root = root
    self._kind = kind
    self._client_separator = texts.composed(client_separator)
    self._found: list[Union[Entry, _Other]] = []

  def files(self) -> list[ClassFile]:
    """Returns all examples."""
    return [found for found in self._found if isinstance(found, ClassFile)]

  def entries(self, class_depth: int) -> tuple[Entry, ...]:
    """Returns examples and bad records, where so many folders lead to an example."""
    entries = []
    for found in self._found:
      if not isinstance(found, _Other):
        entries.append(found)
      elif found.depth >= class_depth:
        entries.append(found.record)
    return tuple(entries)

  def beside(self, class_depth: int) -> list[str]:
    """Returns where files lie that are in no class folder."""
    others = [found for found in self._found if isinstance(found, _Other)]
    return [
      other.path for other in others if other.is_file and other.depth < class_depth
    ]

  def add_files(self, folder: pathlib.Path) -> None:
    """Adds what lies in a folder, but not its folders."""
    for entry in visible(folder):
      if not leads_to_folder(entry):
        self._add(entry, os.path.join(folder, entry.name), ())

  def enter(self, folder: Union[str, pathlib.Path], names: tuple[str, ...]) -> None:
    """Adds what lies in a folder, to which these names lead, and below it."""
    try:
      entries = visible(folder)
    except OSError as error:
      self._found.append(_bad(str(folder), f"cannot be read: {error.strerror}"))
      return
    self.folders.append(names)
    if not entries and names:
      empty = _bad(str(folder), "an empty folder")
      self._found.append(_Other(empty, str(folder), len(names) - 1, is_file=False))
    for entry in entries:
      path = os.path.join(folder, entry.name)
      if not entry.is_dir(follow_symlinks=False):
        self._add(entry, path, names)
      elif problem := _folder_problem(entry.name, len(names), self._kind):
        self._found.append(_bad(path, problem))
      else:
        self.enter(path, (*names, texts.composed(entry.name)))

  def _add(self, entry: "os.DirEntry[str]", path: str, names: tuple[str, ...]) -> None:
    """Adds what is no folder."""
    reason = _file_problem(entry, path, self._root)
    if reason is None:
      reason = self._name_problem(entry.name, len(names))
    if reason is None:
      self._found.append(ClassFile(path, names, self._client(entry.name)))
    elif self._kind.fits(entry.name) or leads_to_folder(entry):
      self._found.append(_bad(path, reason))
    else:
      self._found.append(_Other(_bad(path, reason), path, len(names), is_file=True))

  def _name_problem(self, name: str, depth: int) -> Optional[str]:
    """Tells why a file is no example of a class by its name or place."""
    if not self._kind.fits(name):
      return f"no {self._kind.name} by its name ({', '.join(self._kind.suffixes)})"
    if not depth:
      return f"{self._kind.one} in no class folder"
    if depth == CLIENT_DEPTH or not self._client_separator:
      return None
    if self._client_separator not in texts.composed(name):
      return (
        f"its name has no {texts.value(self._client_separator)} (--client_separator)"
      )
    wrong = texts.problem_of_name(self._client(name))
    return f"the client's id in its name {wrong}" if wrong else None

  def _client(self, name: str) -> Optional[str]:
    """Returns whose a file is by its name."""
    if not self._client_separator:
      return None
    return texts.composed(name).partition(self._client_separator)[0]


def _bad(path: str, reason: str) -> BadRecord:
  return BadRecord(texts.one_line(path), None, None, reason)


def _folder_problem(name: str, depth: int, kind: FileKind) -> Optional[str]:
  if depth == CLIENT_DEPTH:
    return f"a folder in client/class/, where only {kind.many} belong"
  wrong = texts.problem_of_name(name)
  return f"the folder's name {wrong}" if wrong else None


def _file_problem(
  entry: "os.DirEntry[str]", path: str, root: pathlib.Path
) -> Optional[str]:
  """Tells why something that is no folder is no file to read either."""
  target = pathlib.Path(os.path.realpath(path))
  if entry.is_symlink() and not target.is_relative_to(root):
    return "a link that leads out of the dataset's folder"
  if leads_to_folder(entry):
    return "a link to a folder"
  return None if os.path.isfile(path) else "no regular file"
