"""Text that is anybody's does nothing to a terminal; secrets: tests/security/secrets_test.py."""

import pytest

from pipelines.apps import redaction


@pytest.mark.parametrize(
  ("text", "shown"),
  [("größe ×", "größe ×"), ("a\x1b[31mb\nc", "a�[31mb�c"), ("\u202eabc", "�abc")],
)
def test_a_terminal_is_left_alone(text, shown):
  assert redaction.printable(text) == shown


def test_a_line_is_short_and_has_no_secrets(monkeypatch):
  monkeypatch.setenv("MY_TOKEN", "hidden value")
  assert redaction.line("a\n\x1b[2J hidden\nvalue") == "a �[2J ***"
  assert redaction.line("a-" * 10**6) == "a-" * 250
