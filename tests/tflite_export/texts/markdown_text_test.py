"""Names of others cannot become Markdown or HTML."""

import pytest

from tflite_export.texts.markdown_text import escaped


@pytest.mark.parametrize(
  "name", ["digits_cnn", "a cat", "50 % (Dirichlet)", "Ärger", "a-b.c"]
)
def test_usual_names_stay(name):
  assert escaped(name) == name


@pytest.mark.parametrize(
  ("name", "shown"),
  [
    ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
    ("![x](http://a/b)", r"!\[x\](http://a/b)"),
    ("a | b", r"a \| b"),
    ("a\\| b", r"a\\\| b"),
    ("x\n\n# Heading", "x # Heading"),
    ("`code`", r"\`code\`"),
    ("*bold* ~~no~~", r"\*bold\* \~\~no\~\~"),
    ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
    ("a\x1b]0;title\x07", "a�\\]0;title�"),
    ("a\u202eb", "a�b"),
  ],
)
def test_what_would_do_something_is_escaped(name, shown):
  assert escaped(name) == shown
