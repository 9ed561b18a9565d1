"""The HTML page: one file that is safe to open anywhere, with tables that are sorted in a real browser."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.html import NUM_FILTERED, page, sort_number
from analysis.sheet import Column, Sheet

WILD = "<script>alert(1)</script>\"'&"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)

# What stands in a column, in an order that is neither ascending nor descending, and with ties.
SCORES = ("95.3 ± 0.4", "-", "8.1", "100.0 ± 0.0", "-2.5", "8.1 *", "62.0", "62.0", "1e-05")
P_VALUES = ("0.002", "-", "<0.001", "0.001", "0.5", "p < 0.001", "0.040", "0.040", "0.9")
NAMES = ("task 10", "Zebra", "task 9", "alpha", "-", "task 1", "beta", "Beta", "gamma\nfirst")


class Elements(HTMLParser):
    """The elements of a page: (tag, attributes), and all of its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def sheet(**changes: object) -> Sheet:
    rows = tuple(
        {"name": name, "score": score, "p": p_value, "row": str(number)}
        for number, (name, score, p_value) in enumerate(zip(NAMES, SCORES, P_VALUES, strict=True))
    )
    columns = (
        Column(name="name", align="left"),
        Column(name="score", unit="accuracy ↑"),
        Column(name="p"),
        Column(name="row"),
    )
    return Sheet(**{"title": "A table", "columns": columns, "rows": rows, **changes})  # type: ignore[arg-type]


def wild_page() -> str:
    wild = Sheet(
        title=WILD,
        columns=(Column(name=WILD, align="left", unit=WILD),),
        rows=({WILD: WILD},) * NUM_FILTERED,
        notes=(WILD,),
        incomplete=True,
    )
    return page([wild], WILD, {WILD: SVG})


def test_whatever_comes_in_is_text_and_nothing_but_text() -> None:
    text = wild_page()
    elements = Elements(text)
    assert len(elements.all("script")) == 1
    assert "<script>alert" not in text
    assert all(attributes.get("data-key") == WILD for attributes in elements.all("td"))
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]


def test_only_the_pages_own_script_and_style_are_allowed_by_their_hashes() -> None:
    text = page([sheet()], "A page", {"loss": SVG})
    (policy,) = [meta["content"] for meta in Elements(text).all("meta") if meta.get("http-equiv")]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules.pop(f"{tag}-src") == f"'sha256-{digest}'"
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_nothing_is_fetched_or_stored_or_asked() -> None:
    text = page([sheet()], "A page", {"loss": SVG, "scores": PNG})
    for _, attributes in Elements(text).found:
        sources = [value for name, value in attributes.items() if name in ("src", "href", "srcset", "action", "style")]
        assert all(source is not None and source.startswith("data:image/") for source in sources)
    for word in ("http://", "https://", "url(", "@import", "localStorage", "cookie", "alert(", "fetch(", "postMessage"):
        assert word not in text


def test_pictures_are_in_the_page_as_they_are() -> None:
    pictures = Elements(page([], "A page", {"training-loss": SVG, "scores": PNG})).all("img")
    assert [picture["alt"] for picture in pictures] == ["training loss", "scores"]
    for picture, content, kind in zip(pictures, (SVG, PNG), ("svg+xml", "png"), strict=True):
        assert picture["src"] == f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def test_titles_units_notes_and_incompleteness_are_shown() -> None:
    elements = Elements(page([sheet(notes=("A note.",)), sheet(title="Another", incomplete=True)], "A page", {}))
    for words in ("A page", "A table", "Another", "accuracy ↑", "A note."):
        assert words in elements.text
    assert [span.get("class") for span in elements.all("span")].count("incomplete") == 1
    assert "Figures" not in elements.text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("95.3 ± 0.4", 95.3),
        ("+2.1", 2.1),
        ("+2.1 [+1.0, +3.2]", 2.1),
        ("-0.5", -0.5),
        ("\N{MINUS SIGN}0.5", -0.5),
        ("1e-05", 1e-5),
        ("p = 0.04", 0.04),
        ("12,345", 12345),
        ("2/3", 2),
        ("84.8 *", 84.8),
        ("62 %", 62),
    ],
)
def test_numbers_are_read_from_what_tables_show(text: str, number: float) -> None:
    assert sort_number(text) == number


def test_bounds_lie_beyond_their_number() -> None:
    below, exact, above = map(sort_number, ("p < 0.001", "0.001", "> 0.001"))
    assert below is not None and exact is not None and above is not None
    assert below < exact < above


@pytest.mark.parametrize("text", ["adam", "3 diverged", "h4", "", "v1", "3rd", "1.2.3"])
def test_words_are_no_numbers(text: str) -> None:
    assert sort_number(text) is None


DRIVER = """<!DOCTYPE html><meta charset="utf-8">
<iframe id="frame" sandbox="allow-scripts allow-same-origin" srcdoc="{srcdoc}"></iframe><pre id="out"></pre>
<script>
const frame = document.getElementById("frame");
frame.addEventListener("load", () => {{
  const page = frame.contentDocument;
  const rows = () => [...page.querySelectorAll("tbody tr")].filter((row) => !row.hidden)
    .map((row) => Number(row.cells[3].textContent));
  const states = () => [...page.querySelectorAll("th")].map((header) => header.getAttribute("aria-sort"));
  const seen = {{}};
  {actions}
  document.getElementById("out").textContent = JSON.stringify(seen);
}});
</script>
"""


def in_browser(actions: str, folder: Path, content: str) -> dict[str, list[object]]:
    """What a driver page sees that has the page in a frame, from ``srcdoc``, as the MLflow UI has it.

    Args:
        actions: JavaScript that fills ``seen``, with ``page``, ``rows()`` and ``states()`` at hand.
    """
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("there is no chromium on the PATH")
    driver = folder / "driver.html"
    driver.write_text(DRIVER.format(srcdoc=html.escape(content), actions=actions), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([browser, *flags, driver.as_uri()], capture_output=True, text=True, check=True, timeout=120)
    (found,) = re.findall(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(html.unescape(found))


CLICKS = """
const click = (column) => page.querySelectorAll("th button")[column].click();
for (const [column, name] of ["name", "score", "p"].entries()) {
  click(column); seen[name + " up"] = rows(); seen[name + " state"] = states();
  click(column); seen[name + " down"] = rows();
  click(column); seen[name + " as it was"] = rows();
}
"""


def test_a_click_sorts_up_then_down_then_back_with_nothing_always_last(tmp_path: Path) -> None:
    seen = in_browser(CLICKS, tmp_path, page([sheet()], "A page", {}))
    assert seen["score up"] == [4, 8, 2, 5, 6, 7, 0, 3, 1]
    assert seen["score down"] == [3, 0, 6, 7, 2, 5, 8, 4, 1]  # rows 2 and 5, 6 and 7 are equal: they keep their order
    assert seen["p up"] == [2, 5, 3, 0, 6, 7, 4, 8, 1]
    assert seen["p down"] == [8, 4, 6, 7, 0, 3, 2, 5, 1]
    assert seen["name up"] == [3, 6, 7, 8, 5, 2, 0, 1, 4]
    assert seen["name down"] == [1, 0, 2, 5, 8, 6, 7, 3, 4]
    for name in ("name", "score", "p"):
        assert seen[f"{name} as it was"] == list(range(9))
    assert seen["score state"] == ["none", "ascending", "none", "none"]


def test_headers_are_reached_and_pressed_by_keyboard(tmp_path: Path) -> None:
    """A button is: what a browser does with Tab, Enter and the space bar is not the page's to do."""
    actions = """
    const buttons = [...page.querySelectorAll("th button")];
    seen.focused = buttons.map((button) => { button.focus(); return page.activeElement === button; });
    """
    assert in_browser(actions, tmp_path, page([sheet()], "A page", {}))["focused"] == [True] * 4


def test_the_filter_keeps_rows_with_all_of_its_words(tmp_path: Path) -> None:
    actions = """
    const filter = page.querySelector("input");
    for (const words of ["TASK", "task 9", "nothing like it", ""]) {
      filter.value = words; filter.dispatchEvent(new Event("input")); seen[words] = rows();
      seen["of " + words] = [page.querySelector("output").textContent];
    }
    """
    seen = in_browser(actions, tmp_path, page([sheet()], "A page", {}))
    assert seen["TASK"] == [0, 2, 5]
    assert 2 in seen["task 9"]
    assert seen["nothing like it"] == []
    assert seen["of nothing like it"] == ["0 of 9 rows"]
    assert seen[""] == list(range(9))


def test_in_a_browser_too_no_script_runs_but_the_pages_own(tmp_path: Path) -> None:
    """Nor one that found its way past the escaping."""
    content = wild_page().replace("</body>", "<script>document.title = 'broken into'</script></body>")
    actions = """
    seen.title = [page.title]; page.querySelector("th button").click(); seen.states = states();
    """
    seen = in_browser(actions, tmp_path, content)
    assert seen["title"] == [WILD]
    assert seen["states"] == ["ascending"]
