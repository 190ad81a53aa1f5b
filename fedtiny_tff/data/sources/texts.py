"""Names and values from outside, fit for one line of a message."""

import unicodedata
from typing import Optional

_LONGEST = 60
# Arrays of names are as wide as the longest one.
_LONGEST_NAME = 256
_UNUSABLE_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
# They turn the direction of what follows them, and so what a reader sees.
_TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_line(text: str) -> str:
  """Escapes what cannot be printed, such as line ends and bytes that are no UTF-8."""
  return "".join(
    letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
    for letter in text
  )


def value(found: object) -> str:
  """Returns a value as a message shows it: quoted where it is text, and never long."""
  text = one_line(repr(found))
  return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def composed(name: str) -> str:
  """Returns a name with one character for each letter with an accent (NFC).

  File systems differ in how they write these.
  """
  return unicodedata.normalize("NFC", name)


def problem_of_name(name: object) -> Optional[str]:
  """Tells why something is no name of a client or a class.

  Control characters are refused since names stand in messages, files and arrays of
  text, which cut zero bytes off.

  Returns:
    What is wrong, with the value; None where nothing is.
  """
  if name is None or name == "":
    return "is empty"
  if not isinstance(name, str):
    return f"is {type(name).__name__} {value(name)}, expected text"
  if len(name) > _LONGEST_NAME:
    return f"has {len(name)} characters, expected at most {_LONGEST_NAME}"
  if any(
    letter in _TURNING or unicodedata.category(letter) in _UNUSABLE_CATEGORIES
    for letter in name
  ):
    return f"has characters that no name may have: {value(name)}"
  return None
