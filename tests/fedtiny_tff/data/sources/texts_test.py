"""What stands in messages and what may be a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedtiny_tff.data.sources import texts
from tests.fedtiny_tff import support

_ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=100)


@pytest.mark.parametrize(
  ("text", "shown"),
  [("a é/b.png", "a é/b.png"), ("a\nb", r"a\nb"), ("\udc80", r"\udc80")],
)
def test_only_what_cannot_be_printed_is_escaped(text, shown):
  assert texts.one_line(text) == shown


@support.quick
@given(_ANY_TEXT)
def test_any_text_becomes_one_line(text):
  assert texts.one_line(text).isprintable()
  assert len((texts.value(text) + "|").splitlines()) == 1
  assert len(texts.value(text)) <= 60
  texts.value(text).encode()


def test_values_are_quoted_and_cut():
  assert texts.value("7") == "'7'"
  assert texts.value(7) == "7"
  assert texts.value("x" * 80) == "'" + "x" * 56 + "..."


@pytest.mark.parametrize(
  "name", ["a", "client 1", "Zürich", "0", "a\u202fb", "x" * 256]
)
def test_names(name):
  assert texts.problem_of_name(name) is None


@pytest.mark.parametrize(
  ("name", "problem"),
  [
    ("", "is empty"),
    (None, "is empty"),
    (7, "is int 7, expected text"),
    ("x" * 257, "has 257 characters, expected at most 256"),
    ("a\0", r"has characters that no name may have: 'a\\x00'"),
    ("a\nb", r"has characters that no name may have: 'a\\nb'"),
    ("\udc80", r"has characters that no name may have: '\\udc80'"),
  ],
)
def test_what_is_no_name(name, problem):
  assert texts.problem_of_name(name) == problem.replace("\\\\", "\\")


@pytest.mark.parametrize("letter", ["\u202e", "\u2066", "\u202a"])
def test_what_turns_the_direction_of_text_is_in_no_name(letter):
  problem = texts.problem_of_name(f"b{letter}evil")
  assert problem is not None
  assert letter not in problem


def test_emoji_of_several_characters_are_names():
  assert texts.problem_of_name("\U0001f469\u200d\U0001f52c") is None


def test_names_are_composed():
  assert texts.composed("cafe\u0301") == "caf\u00e9"
