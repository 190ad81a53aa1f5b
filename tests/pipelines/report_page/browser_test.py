"""Pages in headless Chromium: whole, silent, readable in every width, by mouse and keys.

It needs Debian's package `chromium`.
"""

import itertools
import pathlib
import shutil
import time

import pytest

from benchmarks.made_runs import Shape
from pipelines.report_page import numbers, writing
from tests.pipelines import support
from tests.pipelines.report_page import made_page, sections_test

playwright = pytest.importorskip(
  "playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)"
)
_CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
  _CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)"
)
_WIDTHS = (390, 820, 1440)
_HOSTILE = "</script><img src=x onerror=alert(1)>"
# What WCAG asks of text, and of parts of a picture.
_TEXT_CONTRAST, _PART_CONTRAST = 4.5, 3.0
# Composes colours as a browser paints them, and returns the contrast of two.
_CONTRAST = """([front, back]) => {
  const read = (name) => {
    const probe = document.createElement("div");
    document.body.append(probe);
    probe.setAttribute("hidden", "");
    probe.style.color = `var(${name})`;
    const color = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    return color.map((each) => each / 255)
      .map((each) => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
      .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
  };
  const [one, two] = [read(front), read(back)];
  return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
}"""

# The texts that reach beyond their picture.
_CUT_TEXTS = """() => [...document.querySelectorAll("svg.picture text")].filter((text) => {
  const [own, picture] = [text.getBBox(), text.ownerSVGElement.viewBox.baseVal];
  return own.width && (own.x < 0 || own.x + own.width > picture.width
    || own.y < 0 || own.y + own.height > picture.height);
}).map((text) => text.textContent)"""


@pytest.fixture(name="browser", scope="module")
def fixture_browser():
  with playwright.sync_playwright() as started:
    # Root, as in containers, has no sandbox.
    browser = started.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture(name="files", scope="module")
def fixture_files(tmp_path_factory):
  """The pages of one run, of several, and of one with hostile names."""
  folder = tmp_path_factory.mktemp("pages")
  whole = made_page.make_whole(folder / "whole")
  shape = Shape(rounds=9, layers=3, clients=4, classes=3, candidates=3, name=_HOSTILE)
  hostile = made_page.make_whole(folder / "hostile", shape)
  return {
    "whole": writing.written([str(whole)], None),
    "several": writing.written(
      [str(whole), str(hostile)], str(folder / "several.html")
    ),
    "hostile": writing.written([str(hostile)], None),
  }


class Opened:
  """A page with all that it said and asked for.

  Attributes:
    page: Playwright's.
    said: Messages on the console, and errors.
    asked: Addresses asked for, besides its own and those that hold their data.
    seconds: Until it was loaded.
  """

  def __init__(self, context, path):
    self.said: list[str] = []
    self.asked: list[str] = []
    self.page = context.new_page()
    self.page.on("console", lambda message: self.said.append(message.text))
    self.page.on("pageerror", lambda error: self.said.append(str(error)))
    self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
    self.page.on("request", self._ask)
    self._own = path.as_uri()
    began = time.perf_counter()
    self.page.goto(self._own, wait_until="load")
    self.seconds = time.perf_counter() - began

  def _ask(self, request):
    if request.url != self._own and not request.url.startswith("data:"):
      self.asked.append(request.url)


@pytest.fixture(name="open_page")
def fixture_open_page(browser):
  contexts = []

  def open_page(path, **settings):
    contexts.append(browser.new_context(**settings))
    return Opened(contexts[-1], path)

  yield open_page
  for context in contexts:
    context.close()


@pytest.mark.parametrize("name", ["whole", "several", "hostile"])
def test_a_page_is_silent_and_asks_for_nothing(files, open_page, name):
  opened = open_page(files[name])
  opened.page.mouse.wheel(0, 4000)
  assert opened.said == []
  assert opened.asked == []
  assert opened.page.locator("main section h2").count() >= 8
  assert opened.page.locator("img:not([src^='data:image/png'])").count() == 0


def test_every_section_has_its_content(files, open_page):
  page = open_page(files["whole"]).page
  sections = page.locator("main section")
  assert (
    sections.evaluate_all("all => all.map(each => each.id)") == sections_test.SECTIONS
  )
  for key in sections_test.SECTIONS:
    section = page.locator(f"#{key}")
    assert section.locator(".card, .plot svg, table, img, pre").count(), key
    assert not section.locator(".absent").count(), key
  # Pictures of masks can be decoded.
  assert page.locator(".mask img").evaluate_all(
    "all => all.every(each => each.naturalWidth > 0)"
  )


@pytest.mark.parametrize("name", ["whole", "several", "hostile"])
def test_nothing_is_wider_than_the_window(files, open_page, name):
  page = open_page(files[name]).page
  for width in _WIDTHS:
    page.set_viewport_size({"width": width, "height": 900})
    for scheme in ("light", "dark"):
      page.emulate_media(color_scheme=scheme)
      assert page.evaluate("document.documentElement.scrollWidth") <= width
      assert page.locator(".contents a").first.is_visible()


@pytest.mark.parametrize("name", ["whole", "several", "hostile"])
def test_no_text_of_a_picture_is_cut(files, open_page, name):
  page = open_page(files[name]).page
  # As long as a row's name gets, of a file that every export to Android has.
  row = page.locator("svg .name").first
  row.evaluate(
    "(text, name) => { text.textContent = name; }",
    numbers.shortened("dynamic_range_dense", 16),
  )
  for width in _WIDTHS:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate(_CUT_TEXTS) == [], width
  row.evaluate("text => { text.textContent = 'W'.repeat(40); }")
  assert page.evaluate(_CUT_TEXTS) == ["W" * 40]


def test_the_mouse_reads_values(files, open_page):
  page = open_page(files["whole"]).page
  tip = page.locator("#tip")
  assert not tip.is_visible()
  for place, wanted in (
    ("#rounds .plot", "Round "),
    ("#labels .plot", "client"),
    ("#sizes .plot", "bytes"),
  ):
    mark = page.locator(f"{place} [data-tip], {place} [data-c]").nth(3)
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    assert wanted in tip.inner_text()
  page.mouse.move(0, 0)
  assert not tip.is_visible()


def test_keys_read_values_and_charts_are_one_stop_each(files, open_page):
  page = open_page(files["whole"]).page
  plot = page.locator("#rounds .plot").first
  plot.focus()
  page.keyboard.press("ArrowRight")
  first = page.locator("#tip").inner_text()
  page.keyboard.press("ArrowRight")
  assert page.locator("#tip").inner_text() != first
  assert first.startswith("Round 0")
  page.keyboard.press("Escape")
  assert not page.locator("#tip").is_visible()
  page.locator("#labels .plot").focus()
  for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
    page.keyboard.press(key)
  assert page.locator("#tip").inner_text().startswith("class layer2\nclient client")
  stops = page.evaluate(
    "document.querySelectorAll('[tabindex=\"0\"], a, summary, button').length"
  )
  assert stops < 150
  assert page.locator("svg [tabindex]").count() == 0


def test_the_first_stop_skips_to_the_content(files, open_page):
  page = open_page(files["whole"]).page
  page.keyboard.press("Tab")
  assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
  page.keyboard.press("Enter")
  assert page.evaluate("document.activeElement.id") == "main"


def test_numbers_can_be_saved_as_csv_without_scripts(files, open_page):
  page = open_page(
    files["whole"], java_script_enabled=False, accept_downloads=True
  ).page
  with page.expect_download() as waiting:
    page.locator("#rounds .csv").first.click()
  assert waiting.value.suggested_filename == "accuracy_by_round.csv"
  lines = pathlib.Path(waiting.value.path()).read_text().splitlines()
  assert lines[0].startswith("round,training accuracy")
  assert len(lines) == 1 + made_page.SHAPE.rounds


def test_headings_and_tables_are_in_order(files, open_page):
  page = open_page(files["whole"]).page
  levels = page.locator("h1, h2, h3").evaluate_all(
    "all => all.map(each => Number(each.tagName[1]))"
  )
  assert levels[0] == 1 and levels.count(1) == 1
  assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
  assert page.locator("table:not(:has(caption))").count() == 0
  assert page.locator("th:not([scope])").count() == 0
  assert page.locator(".plot svg:not([role=img][aria-label])").count() == 0
  ids = page.locator("[id]").evaluate_all("all => all.map(each => each.id)")
  assert len(ids) == len(set(ids))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_told_apart(files, open_page, scheme):
  page = open_page(files["whole"], color_scheme=scheme).page
  for text in ("--ink", "--muted", "--accent"):
    for ground in ("--paper", "--surface", "--faint"):
      assert page.evaluate(_CONTRAST, [text, ground]) >= _TEXT_CONTRAST, (text, ground)
  for part in ("--k0", "--k1", "--k2", "--k3", "--k4", "--k5", "--heat"):
    assert page.evaluate(_CONTRAST, [part, "--surface"]) >= _PART_CONTRAST, part
  dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
  assert (dark == "rgb(14, 16, 19)") == (scheme == "dark")


def test_it_prints(files, open_page):
  opened = open_page(files["whole"], color_scheme="dark")
  content = opened.page.pdf(format="A4")
  assert content.startswith(b"%PDF")
  assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") >= 3
  opened.page.emulate_media(media="print")
  assert not opened.page.locator(".contents").is_visible()
  assert (
    opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    == "rgb(255, 255, 255)"
  )


def test_a_large_run_opens(tmp_path, open_page):
  path = writing.written([str(made_page.make_whole(tmp_path / "large", Shape()))], None)
  opened = open_page(path)
  print(
    f"300 rounds of 50 layers: {path.stat().st_size:,} bytes, {opened.seconds:.2f} s"
  )
  assert opened.said == []
  assert path.stat().st_size < 2_000_000


@pytest.mark.slow
def test_a_real_run(tmp_path, open_page):
  flagfile = support.write_flagfile(tmp_path / "tiny.flags", support.TINY)
  folder = tmp_path / "run"
  arguments = (f"--flagfile={flagfile}", f"--output_dir={folder}", "--dense_baseline")
  # In a process of its own: TFF and Playwright each want the event loop.
  finished = support.App(tmp_path, "run", *arguments)
  assert finished.wait() == 0, finished.stderr
  opened = open_page(folder / "report.html")
  assert opened.said == []
  sections = opened.page.locator("main section")
  assert (
    sections.evaluate_all("all => all.map(each => each.id)") == sections_test.SECTIONS
  )
  assert opened.page.locator(".absent").count() == 0
