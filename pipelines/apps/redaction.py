"""Makes text fit to be shown or sent: without passwords and keys, on one line."""

import os
import re

_HIDDEN = "***"
_LONGEST_LINE = 500
_NAMES_OF_SECRETS = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
# Shorter values occur by chance in ordinary text.
_SHORTEST_SECRET = 6
PASSWORD_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+@")
_ASSIGNED = re.compile(
  r"(\b[\w-]*(?:key|token|secret|passw\w*|credentials?)(?:=|[\"']\s*[=:]\s*))"
  r"[\"']?[^\s&,;}\"']+[\"']?",
  re.IGNORECASE,
)


def redacted(text: str) -> str:
  """Returns a text without secrets.

  Hidden are the values of environment variables whose names say that they are secret,
  user and password of addresses, and what is assigned to a name such as `api_key`.
  """
  secrets = {
    value
    for name, value in os.environ.items()
    if _NAMES_OF_SECRETS.search(name) and len(value) >= _SHORTEST_SECRET
  }
  for value in sorted(secrets, key=len, reverse=True):
    text = text.replace(value, _HIDDEN)
  text = PASSWORD_IN_ADDRESS.sub(f"{_HIDDEN}@", text)
  return _ASSIGNED.sub(rf"\1{_HIDDEN}", text)


def line(text: str) -> str:
  """Returns anybody's text as one line of bounded length, without secrets."""
  # Looking for secrets takes time that grows with the square of the length.
  text = redacted(" ".join(text[: 8 * _LONGEST_LINE].split()))
  return printable(text)[:_LONGEST_LINE]


def printable(text: str) -> str:
  """Returns text of a file on one line that does nothing to a terminal."""
  return "".join(letter if letter.isprintable() else "�" for letter in text)
