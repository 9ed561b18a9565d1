"""Sheets and figures as one HTML page that needs nothing else: no network, no other file, no library.

Tables are sorted by their headers and filtered by a box above them. All text is escaped, and a Content-Security-Policy
lets no script run but the page's own, so that a task's name is never more than a name. The page stores nothing and asks
nothing of its surroundings: it works from a folder, and in the sandboxed frame of the MLflow UI.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape

from analysis.sheet import NONE, Column, Sheet

NUM_FILTERED = 8  # rows from which a table has a filter
LONG = 48  # characters from which a line is wrapped

# What a cell begins with that is a number: "95.3 ± 0.4", "+2.1 [+1.0, +3.2]", "1e-05", "p < 0.001", "3/3", "84.8 *".
NUMBER = re.compile(
    r"(?:p\s*)?(?P<bound>[<>=]?)\s*(?P<number>[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)\s*(?:$|[%*±\[(]|/\d)",
    re.IGNORECASE,
)

SCRIPT = """
"use strict";
const collator = new Intl.Collator(undefined, {numeric: true, sensitivity: "base"});
const NEXT = {none: "ascending", ascending: "descending", descending: "none"};

for (const section of document.querySelectorAll("section")) {
  const table = section.querySelector("table");
  const body = table.tBodies[0];
  const recorded = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];

  const sorted = (column, direction) => {
    if (direction === "none") return recorded;
    const isNumber = headers[column].dataset.kind === "number";
    const sign = direction === "ascending" ? 1 : -1;
    const key = (row) => row.cells[column].dataset.key;
    return [...recorded].sort((one, other) => {
      const [first, second] = [key(one), key(other)];
      if (first === undefined || second === undefined) {
        return Number(first === undefined) - Number(second === undefined);
      }
      return sign * (isNumber ? Number(first) - Number(second) : collator.compare(first, second));
    });
  };

  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const direction = NEXT[header.getAttribute("aria-sort")];
      headers.forEach((other) => other.setAttribute("aria-sort", "none"));
      header.setAttribute("aria-sort", direction);
      body.append(...sorted(column, direction));
    });
  });

  const filter = section.querySelector("input");
  filter?.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\\s+/);
    for (const row of recorded) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = recorded.filter((row) => !row.hidden).length;
    section.querySelector("output").textContent = `${shown} of ${recorded.length} rows`;
  });
}
"""

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1b1b; --quiet: #595959; --line: #d4d4d4; --head: #f1f1f1;
  --warn: #8a3c00; }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --ink: #e8e8e8; --quiet: #a9adb2; --line: #3b4046;
  --head: #24282d; --warn: #ffb077; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 90rem; background: var(--page); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
.incomplete { color: var(--warn); font-size: .875rem; font-weight: normal; }
.filter { display: inline-flex; gap: .5rem; align-items: center; margin-bottom: .5rem; font-size: .875rem; }
.filter input { font: inherit; padding: .25rem .5rem; max-width: 14rem; }
output, figcaption, .notes { color: var(--quiet); font-size: .875rem; }
.scroll { overflow: auto; max-height: 85vh; border: 1px solid var(--line); width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  font-weight: normal; }
td { white-space: nowrap; } th.right, td.right { text-align: right; }
td.long { white-space: normal; min-width: 14rem; max-width: 32rem; overflow-wrap: anywhere; }
thead th { position: sticky; top: 0; z-index: 1; background: var(--head); padding: 0; }
thead button { all: unset; box-sizing: border-box; width: 100%; padding: .4rem .6rem; cursor: pointer; font-weight: 600;
  white-space: nowrap; }
thead button:focus-visible { outline: 2px solid Highlight; outline-offset: -2px; }
.name::after { content: "\\2195"; display: inline-block; width: 1.1em; text-align: right; opacity: .4; }
[aria-sort=ascending] .name::after { content: "\\25B2"; opacity: 1; }
[aria-sort=descending] .name::after { content: "\\25BC"; opacity: 1; }
.unit { display: block; color: var(--quiet); font-weight: normal; }
tbody tr:hover td { background: var(--head); }
@media screen and (min-width: 40rem) { th:first-child, td:first-child { position: sticky; left: 0; }
  td:first-child { background: var(--page); } thead th:first-child { z-index: 2; } }
.notes { max-width: 60rem; padding-left: 1.2rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figure img { display: block; max-width: 100%; height: auto; background: #fff; }
@media print, (max-width: 40rem) { td.left.short { white-space: normal; overflow-wrap: break-word; min-width: 5rem; } }
@media print { td.left.short { overflow-wrap: anywhere; } }
@media print { :root { color-scheme: light; --page: #fff; --ink: #000; --quiet: #333; --line: #999; --head: #eee;
    --warn: #000; }
  body { padding: 0; font-size: 10pt; } .filter, .name::after { display: none; }
  .scroll { overflow: visible; max-height: none; border: 0; } thead th { position: static; }
  table { font-size: 7.5pt; } th, td, thead button { padding: .1rem .25rem; } thead button { white-space: normal; }
  tr, figure { break-inside: avoid; } }
@page { size: landscape; margin: 1cm; }
"""


def page(sheets: Sequence[Sheet], title: str, figures: Mapping[str, bytes]) -> str:
    """The whole page.

    Args:
        figures: name -> PNG or SVG.
    """
    pictures = "".join(_figure(name, content) for name, content in figures.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{"".join(map(_section, sheets))}{f"<h2>Figures</h2>{pictures}" if pictures else ""}
<script>{SCRIPT}</script>
</body>
</html>
"""


def _policy() -> str:
    """Nothing but this page's own script and style, by their hashes, and pictures that are in the page."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {digest(SCRIPT)}; style-src {digest(STYLE)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _section(sheet: Sheet) -> str:
    remark = ' <span class="incomplete">incomplete</span>' if sheet.incomplete else ""
    numeric = {column.name: _is_numeric(sheet, column) for column in sheet.columns}
    head = "".join(_header(column, numeric[column.name]) for column in sheet.columns)
    rows = "".join(
        f"<tr>{''.join(_cell(column, row[column.name], numeric[column.name]) for column in sheet.columns)}</tr>\n"
        for row in sheet.rows
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in sheet.notes)
    return f"""<section>
<h2>{escape(sheet.title)}{remark}</h2>
{_filter(sheet)}<div class="scroll" tabindex="0" role="group" aria-label="{escape(sheet.title)}"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}</tbody>
</table></div>
<ul class="notes">{notes}</ul>
</section>
"""


def _filter(sheet: Sheet) -> str:
    if len(sheet.rows) < NUM_FILTERED:
        return ""
    return '<label class="filter">Rows with <input type="search" autocomplete="off"><output></output></label>\n'


def _header(column: Column, is_numeric: bool) -> str:
    unit = f'<span class="unit">{escape(column.unit)}</span>' if column.unit else ""
    kind = "number" if is_numeric else "text"
    button = f'<button type="button"><span class="name">{escape(column.name)}</span>{unit}</button>'
    return f'<th scope="col" class="{column.align}" aria-sort="none" data-kind="{kind}">{button}</th>'


def _cell(column: Column, text: str, is_numeric: bool) -> str:
    """A cell with what it is sorted by: its first line, or the number in that; nothing where there is nothing."""
    key = _first_line(text)
    if is_numeric and key:
        key = f"{sort_number(key)!r}"
    attribute = f' data-key="{escape(key)}"' if key else ""
    width = "lines" if "\n" in text else "long" if len(text) > LONG else "short"
    return f'<td class="{column.align} {width}"{attribute}>{escape(text).replace(chr(10), "<br>")}</td>'


def _first_line(text: str) -> str:
    """What a cell is sorted by; empty where it says that there is nothing."""
    line = text.split("\n")[0].strip()
    return "" if line == NONE else line


def _is_numeric(sheet: Sheet, column: Column) -> bool:
    """Whether all that stands in a column is numbers."""
    keys = list(filter(None, (_first_line(row[column.name]) for row in sheet.rows)))
    return bool(keys) and all(sort_number(key) is not None for key in keys)


def sort_number(text: str) -> float | None:
    """The number that a cell begins with, for sorting; a bound such as ``<0.001`` lies a hair beyond it.

    Returns:
        None where it begins with none.
    """
    found = NUMBER.match(text.replace("\N{MINUS SIGN}", "-"))
    if found is None:
        return None
    number = float(found["number"].replace(",", ""))
    hair = 1e-9 * max(abs(number), 1e-300)
    return number + {"<": -hair, ">": hair}.get(found["bound"], 0.0)


def _figure(name: str, content: bytes) -> str:
    kind = "image/png" if content.startswith(b"\x89PNG") else "image/svg+xml"
    words = escape(name.replace("-", " "))
    data = base64.b64encode(content).decode()
    return f'<figure><img alt="{words}" src="data:{kind};base64,{data}"><figcaption>{words}</figcaption></figure>\n'
