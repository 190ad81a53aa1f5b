"""Pages as HTML: one file without a single address to load from."""

import base64
import hashlib
import pathlib

import jinja2
from markupsafe import Markup

from pipelines.report_page.content import Page

_FOLDER = pathlib.Path(__file__).resolve().parent / "templates"


def render(page: Page) -> str:
  """Returns a page as HTML; the same page gives the same text."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    # Whatever the template is called: names in a run may come from anybody.
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
  )
  style, script = (
    (_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
  )
  # Files of this package; a hash admits them, and nothing that a run might smuggle in.
  return environment.get_template("page.html").render(
    page=page,
    style=Markup(style),
    script=Markup(script),
    policy="; ".join(
      (
        "default-src 'none'",
        f"style-src {_hash(style)}",
        f"script-src {_hash(script)}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
      )
    ),
  )


def _hash(text: str) -> str:
  """Returns what a content security policy calls an inline text by."""
  digest = hashlib.sha256(text.encode()).digest()
  return f"'sha256-{base64.b64encode(digest).decode()}'"
