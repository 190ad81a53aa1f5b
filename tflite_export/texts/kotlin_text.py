"""Text as Kotlin's sources hold it."""

import json


def quoted(text: str) -> str:
  """Returns a string literal of the text, with its quotation marks."""
  # Of JSON's escapes Kotlin lacks the form feed's, and has one for the dollar.
  parts = (json.dumps(part)[1:-1] for part in text.split("\f"))
  return '"' + "\\u000c".join(parts).replace("$", "\\$") + '"'
