"""Literals of Kotlin: its escapes are not all of JSON's."""

import pytest

from tflite_export.texts import kotlin_text


@pytest.mark.parametrize(
  ("text", "literal"),
  [
    ("plain", '"plain"'),
    ('a "b"', r'"a \"b\""'),
    ("$x", r'"\$x"'),
    ("\f", r'"\u000c"'),
    # A backslash in front of a letter.
    (r"\f", r'"\\f"'),
    ("\\\f\f", r'"\\\u000c\u000c"'),
    ("", '""'),
  ],
)
def test_literals_are_kotlins(text, literal):
  assert kotlin_text.quoted(text) == literal
