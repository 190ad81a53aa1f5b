"""docs/troubleshooting.md lists the messages of the code, each with its mend."""

import pathlib
import re

import pytest

from tools import error_messages, troubleshooting

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / troubleshooting.PAGE).read_text(encoding="utf-8")


@pytest.fixture(name="messages", scope="module")
def fixture_messages():
  return error_messages.messages(ROOT)


def test_the_page_is_that_of_the_code(messages):
  wanted = troubleshooting.written(PAGE, messages)
  assert wanted == PAGE, "run `python -m tools.troubleshooting`"


def test_a_new_message_changes_the_page(messages):
  new = messages[0]._replace(pattern="--rounds: are too many; lower them")
  changed = troubleshooting.written(PAGE, [*messages, new])
  assert changed != PAGE
  assert "Lower them" in changed


def test_every_error_says_how_to_mend_it(messages):
  assert len(messages) > 400
  assert troubleshooting.without_mend(messages) == []


def test_messages_are_one_line_of_plain_text(messages):
  for each in messages:
    assert not each.pattern.endswith((".", "!")), each
    assert not re.search(r"\b(?:please|sorry|oops|invalid)\b", each.pattern, re.I), each


def test_every_module_has_an_area(messages):
  titles = {title for title, _ in troubleshooting.AREAS}
  assert {troubleshooting.area(each.module) for each in messages} == titles


def test_a_message_needs_no_reader_of_source(messages):
  for each in messages:
    # What an expression stands for has a name, and no code is left.
    assert not re.search(r"<[a-z][^>]*[(){}\[\]=]", each.pattern), each
    assert "{" not in error_messages.Message(*each).text or "JSON" in each.pattern, each


def test_the_hand_written_part_is_kept():
  assert PAGE.startswith("# Troubleshooting\n")
