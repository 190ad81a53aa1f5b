"""The documentation's site: its links, what it loads, and that it can be built."""

import pathlib
import re
import shutil

import pytest

from tools import docs_site, site_hooks
from tools.setup_messages import SetupError

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
  ("source", "text", "changed"),
  [
    ("README.md", "[a](docs/models.md#width)", "[a](models.md#width)"),
    ("README.md", "![a](docs/dataflow.svg)", "![a](dataflow.svg)"),
    ("README.md", "[a](SECURITY.md)", "[a](security.md)"),
    ("docs/models.md", "[a](../README.md#measured)", "[a](index.md#measured)"),
    ("docs/results/cifar10/README.md", "[a](../../models.md)", "[a](../../models.md)"),
    # What is not on the site is only named.
    ("README.md", "[a](LICENSE), [b](docs/several_machines)", "a, b"),
    # What is nowhere stays, for mkdocs to warn of.
    ("docs/models.md", "[a](nowhere.md)", "[a](nowhere.md)"),
    (
      "docs/models.md",
      "[a](#width) [b](https://x.org)",
      "[a](#width) [b](https://x.org)",
    ),
    ("README.md", "```sh\n[a](LICENSE)\n```", "```sh\n[a](LICENSE)\n```"),
  ],
)
def test_links_lead_to_the_same_on_the_site(source, text, changed):
  assert site_hooks.relinked(text, source) == changed


def test_links_of_the_repository_lead_somewhere():
  pages = [*(ROOT / name for name in site_hooks.PAGES), *(ROOT / "docs").rglob("*.md")]
  for page in pages:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
      path = target.partition("#")[0]
      if path and not re.match(r"[a-z]+:", path):
        assert (page.parent / path).exists(), f"{page}: {target}"


def test_code_in_lists_is_indented_for_both():
  # mkdocs wants four spaces where the repository's view is content with less.
  for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
    fences = re.findall(r"^( *)```", page.read_text(encoding="utf-8"), re.M)
    assert {len(indent) % 4 for indent in fences} <= {0}, page


def test_a_notebook_becomes_a_page():
  content = """{"cells": [
    {"cell_type": "markdown", "source": ["# Title\\n", "text"]},
    {"cell_type": "code", "source": ["print(1)"], "outputs": [{"text": ["1\\n"]}]},
    {"cell_type": "code", "source": ["2"], "outputs": [{"data": {"text/plain": "2"}}]}
  ]}"""
  assert site_hooks.notebook_page(content) == (
    "# Title\ntext\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
    "```python\n2\n```\n\n```text\n2\n```\n"
  )


@pytest.mark.parametrize(
  ("name", "text", "count"),
  [
    ("a.html", '<script src="https://x.org/a.js"></script>', 1),
    ("a.html", '<link rel="stylesheet" href="//x.org/a.css">', 1),
    ("a.html", '<link rel="preconnect" href="https://x.org">', 1),
    ("a.html", '<img srcset="https://x.org/a.png 2x">', 1),
    ("a.html", '<p style="background: url(https://x.org/a.png)">', 1),
    ("a.html", '<pre class="mermaid x"></pre>', 1),
    ("a.html", '<div data-md-component="source"></div>', 1),
    ("a.css", '@import "https://x.org/a.css"; a { src: url(//x.org/a) }', 2),
    (
      "a.html",
      '<a href="https://x.org">x</a><link rel="canonical" href="https://x">',
      0,
    ),
    ("a.html", '<img src="a.png"><script src="/a.js"></script>', 0),
    ("a.css", "a { background: url(data:image/svg+xml;x) }", 0),
    ("a.txt", '<img src="https://x.org/a.png">', 0),
  ],
)
def test_what_a_page_loads_from_elsewhere(tmp_path, name, text, count):
  (tmp_path / name).write_text(text)
  assert len(docs_site.external_loads(tmp_path)) == count


@pytest.mark.slow
def test_the_site_is_built(tmp_path):
  try:
    assert docs_site.build(ROOT, tmp_path / "site") == []
  except SetupError as error:
    pytest.skip(f"mkdocs cannot be installed: {error}")
  home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
  assert 'src="dataflow.svg"' in home
  shutil.copytree(ROOT / "docs", tmp_path / "docs")
  for name in ("mkdocs.yml", docs_site.LOCK):
    shutil.copy(ROOT / name, tmp_path)
  (tmp_path / "tools").symlink_to(ROOT / "tools")
  (tmp_path / ".cache").symlink_to(ROOT / ".cache")
  with (tmp_path / "docs" / "models.md").open("a", encoding="utf-8") as page:
    page.write("\n[nowhere](nowhere.md)\n")
  assert any("nowhere.md" in line for line in docs_site.build(tmp_path, tmp_path / "b"))
