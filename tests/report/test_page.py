"""The page in a browser: alone in a folder, on a desk and on a phone, and printed."""

import html
import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rankwise.__main__ import main
from rankwise.analysis.usage import Usage
from rankwise.report.page import write
from rankwise.sweep.folder import Sweep
from tests.analysis.examples import analysis, plan, strong, write_example
from tests.report.command import make_report

pytestmark = pytest.mark.chromium
NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60
WIDTHS = (400, 1200)

# In a page around the report, which stays as it is and runs no script.
MEASURE = """
const [inner, wide] = [(e) => e.getBoundingClientRect(), (e) => e.closest(".wide")];
const frames = [...document.querySelectorAll("iframe")];
const measure = () => frames.map((frame) => {
  const page = frame.contentDocument;
  const all = [...page.body.querySelectorAll("*")];
  const drawings = [...page.querySelectorAll("figure svg")];
  return {
    width: page.documentElement.clientWidth,
    needed: page.documentElement.scrollWidth,
    outside: all.filter((e) => !wide(e) && !e.closest("svg"))
      .filter((e) => inner(e).right > page.documentElement.clientWidth + 1)
      .map((e) => e.outerHTML.slice(0, 80)),
    drawings: drawings.map((e) => [inner(e).width, inner(e).height]),
    cut: drawings.flatMap((e) => [...e.querySelectorAll("text")].filter((text) =>
      inner(text).left < inner(e).left - 1 || inner(text).right > inner(e).right + 1 ||
      inner(text).top < inner(e).top - 1 || inner(text).bottom > inner(e).bottom + 1
    ).map((text) => text.textContent)),
    titles: drawings.map((e) => e.querySelector("title").textContent),
    ids: [...page.querySelectorAll("[id]")].map((e) => e.id),
    heights: [...page.querySelectorAll("pre, tbody tr")].map((e) => inner(e).height),
    text: page.body.innerText,
    goesOn: [...page.querySelectorAll(".wide")].map((e) => [
      e.scrollWidth > e.clientWidth + 1,
      [...e.querySelectorAll(".more")].some((m) => inner(m).height > 0 && inner(m).left >= 0 &&
        inner(m).right <= inner(e).right && getComputedStyle(m).visibility === "visible")]),
  };
});
// The browser sees what scrolls when it has drawn it. A document that is open holds back the end of
// loading, at which this one is read.
const open = document.body.appendChild(document.createElement("iframe"));
open.contentDocument.open();
const loaded = ({contentDocument: page}) =>
  page.URL !== "about:blank" && page.readyState === "complete";
let drawn = 0;
const look = () => {
  drawn += frames.every(loaded);
  if (drawn < 3) return requestAnimationFrame(look);
  const result = document.createElement("pre");
  result.id = "measured";
  result.textContent = JSON.stringify(measure());
  document.body.append(result);
  open.contentDocument.close();
};
look();
"""


@pytest.fixture(scope="module")
def chromium():
    """Return the path of the browser."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return a page that was sent by mail: alone in its folder."""
    folder = tmp_path_factory.mktemp("sweep")
    write_example(folder)
    assert make_report(folder) == 0
    alone = tmp_path_factory.mktemp("mail")
    return Path(shutil.copy(folder / "report.html", alone))


@pytest.fixture
def browse(chromium, tmp_path):
    """Return a function that loads a page without a network and returns what the browser said."""
    cut_off = ["unshare", "--net"] if os.geteuid() == 0 and shutil.which("unshare") else []

    def run(path, *options):
        command = [*cut_off, chromium, "--headless=new", "--no-sandbox", "--disable-gpu"]
        command += ["--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path}/profile"]
        command += ["--allow-file-access-from-files", "--enable-logging=stderr", *options]
        done = subprocess.run(
            [*command, path.as_uri()],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def measure(browse, tmp_path):
    """Return a function that measures a page in frames of the widths of a phone and a desk."""

    def call(page):
        frames = "".join(
            f'<iframe src="{page.as_uri()}" style="width: {width}px; height: 900px; border: 0">'
            "</iframe>"
            for width in WIDTHS
        )
        around = tmp_path / "around.html"
        around.write_text(f"<body>{frames}<script>{MEASURE}</script></body>")
        dom = browse(around, "--dump-dom").stdout
        found = re.search(r'<pre id="measured">(.*?)</pre>', dom, re.DOTALL)
        return json.loads(html.unescape(found[1]))

    return call


def test_page_fits_a_phone_and_a_desk(measure, page):
    measured = measure(page)
    assert [frame["width"] for frame in measured] == list(WIDTHS)
    for frame in measured:
        assert frame["needed"] <= frame["width"]
        assert frame["outside"] == []
        assert len(frame["drawings"]) == 8
        for width, height in frame["drawings"]:
            assert 300 < width <= 600 and height == pytest.approx(0.72 * width, rel=0.02)
        assert frame["cut"] == []
        assert min(frame["heights"]) > 10
        assert len(frame["ids"]) == len(set(frame["ids"])) > 100
        assert all("scaling, " in title for title in frame["titles"])
        for words in ("Strong scaling", "Weak scaling", "the end", "Method", "core-hours a run"):
            assert words in frame["text"]
    # What goes on beyond the edge of a phone says so, and nothing else does.
    phone, desk = (frame["goesOn"] for frame in measured)
    assert all(told == goes_on for goes_on, told in phone + desk)
    assert [goes_on for goes_on, _ in phone].count(True) == 2
    assert not any(goes_on for goes_on, _ in desk)


@pytest.mark.parametrize(
    ("shown", "goes_on"),
    [((), False), (("read", "written", "storage_read", "storage_written"), True)],
)
def test_table_of_usage_says_where_it_goes_on(measure, tmp_path, shown, goes_on):
    used = Usage(2.0**20, 2.0**21, 1, *([math.nan] * 4))
    used = replace(used, **dict.fromkeys(shown, 2.0**30))
    plain = strong((1, 2))
    points = tuple(replace(p, usage=replace(used, seen=p.ranks)) for p in plain.points)
    found = analysis(replace(plain, points=points, baseline=points[0]))
    write(found, Sweep(tmp_path, plan([1, 2]), [], []))
    phone, desk = (frame["goesOn"] for frame in measure(tmp_path / "report.html"))
    # Those of the points and of the laws have more columns than a phone shows.
    assert phone == [[True, True], [True, True], [goes_on, goes_on]]
    assert desk == [[False, False]] * 3


def test_comparison_fits_a_phone_and_a_desk(measure, tmp_path):
    for name in "ab":
        write_example(tmp_path / name)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--fail-above", "5%"]) == 0
    for frame in measure(tmp_path / "b" / "comparison.html"):
        assert frame["needed"] <= frame["width"]
        assert frame["outside"] == [] and frame["cut"] == []
        assert all(told == goes_on for goes_on, told in frame["goesOn"])
        assert len(frame["drawings"]) == 4
        assert all(300 < width <= 600 for width, _ in frame["drawings"])
        assert len(frame["ids"]) == len(set(frame["ids"])) > 100
        for words in ("The check passed", "cannot tell", "the end", "Method", "B / A"):
            assert words in frame["text"]


def test_page_is_drawn_and_nothing_is_refused(browse, page, tmp_path):
    picture = tmp_path / "page.png"
    done = browse(page, "--window-size=1200,2400", f"--screenshot={picture}")
    assert "Content Security Policy" not in done.stderr
    pixels = np.asarray(Image.open(picture).convert("RGB"), int)
    assert pixels.shape == (2400, 1200, 3)
    # Bars of the phases, text, and an empty margin.
    blue = (abs(pixels - (0, 0x72, 0xB2)) < 8).all(axis=-1)
    assert blue.sum() > 5000
    assert (pixels.sum(axis=-1) < 200).sum() > 5000
    assert (pixels[:, :20] == 255).all()


def test_what_would_be_fetched_or_run_is_refused(browse, page, tmp_path):
    spoiled = tmp_path / "spoiled.html"
    bad = '<script>document.title = "ran"</script><img src="http://127.0.0.1:9/x.png"></main>'
    spoiled.write_text(page.read_text().replace("</main>", bad))
    done = browse(spoiled, "--dump-dom")
    assert "<title>Scaling of " in done.stdout and "<title>ran" not in done.stdout
    assert done.stderr.count("Content Security Policy") >= 2


def test_print_has_everything(browse, page, tmp_path):
    paper = tmp_path / "page.pdf"
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    pages = re.findall(rb"/Type\s*/Page\b", paper.read_bytes())
    assert 2 <= len(pages) <= 8
    if shutil.which("pdftotext"):
        command = ["pdftotext", "-layout", str(paper), "-"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS).stdout
        words = ("Scaling of", "Speedup over", "the end", "Method", "--ranks 1,2,4")
        assert [each for each in words if each not in text] == []
        # Under every figure its caption, on the same page.
        captions = ("Speedup. Points", "Where the time goes", "Load balance")
        assert [text.count(each) for each in captions] == [2, 2, 2]
