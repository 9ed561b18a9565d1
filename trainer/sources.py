"""Where a data file comes from, and where on this machine it lies."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from trainer.archives import is_inside
from trainer.downloads import DownloadError, Report, download
from trainer.errors import UserError, near

if TYPE_CHECKING:
    import requests


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file of upstream's.

    Attributes:
        path: where it lies in a data folder in upstream's layout, e.g. "dna/H4.txt"; "/" on every platform.
        url: where to download it; "" where it can only be had by hand, from ``homepage``.
        homepage: for people: where to get it by hand.
        git_blob: 40 hex digits, the SHA-1 of ``blob SIZE\\0`` and the content; "" where upstream publishes none.
        sha256: 64 hex digits of what the url gives; "" where upstream publishes none.
        unpack: where the url gives a zip or tar archive, the folder ("music") in which unpacking it makes ``path``;
            None where it gives the file itself.

    Raises:
        UserError: for a path that would lead out of the data folder, or a url of another kind than http(s).
    """

    path: str
    url: str = ""
    homepage: str = ""
    git_blob: str = ""
    sha256: str = ""
    unpack: str | None = None

    def __post_init__(self) -> None:
        if not is_inside(self.path):
            raise UserError(f"path: {self.path!r} is not allowed; give a file's path inside the data folder")
        if self.url and not self.url.startswith(("https://", "http://")):
            raise UserError(f"url: {self.url!r} is not allowed; give one that starts with https:// or http://")
        if self.url and self.unpack is not None and not self._can_unpack():
            raise UserError(
                f"unpack: {self.unpack!r} is not allowed; give a folder above {self.path}, and an archive's url"
            )

    def _can_unpack(self) -> bool:
        folder = PurePosixPath(self.unpack or "")
        inside = is_inside(self.arrival) and PurePosixPath(self.path).is_relative_to(folder)
        return inside and PurePosixPath(self.arrival) != folder

    @property
    def arrival(self) -> str:
        """Where in a data folder lies what the url gives: ``path``, or the archive beside what it unpacks to."""
        if self.unpack is None:
            return self.path
        return (PurePosixPath(self.unpack) / PurePosixPath(unquote(urlsplit(self.url).path)).name).as_posix()

    @property
    def origin(self) -> str:
        """Where to get it, in words."""
        return self.url or f"by hand from {self.homepage}"

    def by_hand(self, folder: Path) -> str:
        """What a person can do to have it in a data folder, in words."""
        what = "the file at" if self.unpack is None else "what the archive unpacks to in"
        where = folder / (self.path if self.unpack is None else self.unpack)
        get = f"get it from {self.homepage} and " if self.homepage else ""
        return f"{get}put {what} {where} by hand, or give the folder that holds it as data_dir"


Layout = tuple[Source, ...]
"""Files that a task reads together."""


def cache_folder() -> Path:
    """The folder for downloaded data: ``POLYMATH_DATA``, else ``polymath`` in the user's cache folder."""
    if given := os.environ.get("POLYMATH_DATA"):
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "polymath"


def _endings(path: str) -> list[PurePosixPath]:
    """A path and its trailing parts, longest first."""
    parts = PurePosixPath(path).parts
    return [PurePosixPath(*parts[start:]) for start in range(len(parts))]


def find(source: Source, folder: Path) -> Path | None:
    """The source's file in a folder, by its path or any trailing part of it (longest first), or None."""
    return next((folder / ending for ending in _endings(source.path) if (folder / ending).is_file()), None)


def find_layout(layouts: Sequence[Layout], folder: Path) -> dict[Source, Path] | None:
    """The first layout that is whole in a folder, with each file's place, or None."""
    for layout in layouts:
        found = {source: path for source in layout if (path := find(source, folder)) is not None}
        if len(found) == len(layout):
            return found
    return None


def nearest_layout(layouts: Sequence[Layout], folder: Path) -> Layout:
    """The layout of which the largest share is in a folder; of equals the first that can be downloaded."""

    def nearness(layout: Layout) -> tuple[float, bool]:
        return sum(find(source, folder) is not None for source in layout) / len(layout), _is_online(layout)

    return max(layouts, key=nearness)


def _is_online(layout: Layout) -> bool:
    return all(source.url for source in layout)


def locate(layouts: Sequence[Layout], data_dir: Path | None) -> tuple[Path, ...]:
    """The files of the first layout that is whole on this machine, or that can be downloaded.

    Args:
        layouts: the forms in which the data can be had, the preferred one first.
        data_dir: the user's own data folder: its files are taken as they are (a subset is fine), nothing is downloaded
            or checked. Without one, the files in :func:`cache_folder`, downloaded if they are not there yet.

    Raises:
        UserError: for a folder or file that is not there, or downloads that failed.
    """
    name, folder = ("POLYMATH_DATA", cache_folder()) if data_dir is None else ("data_dir", data_dir.expanduser())
    try:
        if (found := find_layout(layouts, folder)) is not None:
            return tuple(found.values())
        if data_dir is not None:
            raise UserError(_not_there(layouts, folder))
    except OSError as error:
        raise UserError(f"{name}: {str(folder)!r} cannot be read ({error.strerror}); check its permissions") from None
    return tuple(obtain(layouts, folder).values())


def obtain(
    layouts: Sequence[Layout], folder: Path, report: Report | None = None, session: "requests.Session | None" = None
) -> dict[Source, Path]:
    """Downloads what a data folder lacks of the first layout that can be had; if that fails, of the next.

    Args:
        layouts: the forms in which the data can be had, the preferred one first.
        folder: the data folder.
        report, session: see :func:`trainer.downloads.download`.

    Raises:
        UserError: when none can be had, or the folder cannot be written.
    """
    from trainer.hosts import open_session

    online = [layout for layout in layouts if all(source.url or find(source, folder) for source in layout)]
    reasons = []
    with nullcontext(session) if session else open_session() as session:
        for number, layout in enumerate(online, start=1):
            try:
                return {source: find(source, folder) or download(source, folder, report, session) for source in layout}
            except DownloadError as error:
                if len(layouts) == 1:
                    raise
                reasons.append(error.reason)
                for following in online[number : number + 1]:
                    print(f"{_brief(layout)}: not from {error.reason}; trying {_brief(following)}", file=sys.stderr)
    failed = f"could not be downloaded from {', nor from '.join(reasons)}" if reasons else "cannot be downloaded"
    raise UserError(
        f"{_brief(layouts[0])}: {failed}; put {_forms(layouts)} into {folder} by hand, "
        "or give the folder that holds them as data_dir"
    )


def _brief(layout: Layout) -> str:
    more = f" and {len(layout) - 1} more" if len(layout) > 1 else ""
    return f"{layout[0].path}{more}"


def _forms(layouts: Sequence[Layout]) -> str:
    """The layouts in brief, with the address of those that can only be had by hand."""
    online, by_home = [], dict[str, list[str]]()
    for layout in layouts:
        if _is_online(layout):
            online.append(_brief(layout))
        else:
            by_home.setdefault(layout[0].homepage, []).append(_brief(layout))
    return " or ".join([*online, *(f"{' or '.join(forms)} (from {home})" for home, forms in by_home.items())])


def _not_there(layouts: Sequence[Layout], folder: Path) -> str:
    """Why a data folder will not do, and what would."""
    layout = nearest_layout(layouts, folder)
    lacking = [source for source in layout if find(source, folder) is None]
    them = "it" if len(lacking) == 1 else "them"
    urls = {source.url for source in lacking}
    if all(urls):
        places = urls if len(urls) == 1 else {url.rpartition("/")[0] for url in urls}
        remedy = f"download {them} from {' and '.join(sorted(places))}"
    else:
        remedy = f"get {them} by hand from {lacking[0].homepage}"
    if any(map(_is_online, layouts)):
        remedy += f", or leave data_dir out to have {them} downloaded"
    if others := [_brief(other) for other in layouts if other is not layout]:
        remedy += f"; instead of {_brief(layout)}, {' or '.join(others)} will do"
    if folder.is_dir():
        hint = next(filter(None, (_near_miss(source, layout, folder) for source in lacking)), "")
        return f"data_dir: {str(folder)!r} {_lacks(lacking)}{hint}; {remedy}"
    if folder.exists():
        return (
            f"data_dir: {str(folder)!r} is a file; give the folder that holds {lacking[0].path}, or leave data_dir out"
        )
    parent = folder.absolute().parent
    siblings = [entry.name for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []
    hint = near(folder.name, siblings)
    return f"data_dir: there is no folder {str(folder)!r}{hint}; give the one that holds {lacking[0].path}; {remedy}"


def _lacks(lacking: Sequence[Source]) -> str:
    if len(lacking) > 1:
        return f"lacks {', '.join(source.path for source in lacking)} (also without the folders before their names)"
    match [ending.as_posix() for ending in _endings(lacking[0].path)]:
        case [path]:
            return f"holds no {path}"
        case [path, name]:
            return f"holds neither {path} nor {name}"
        case paths:
            return f"holds none of {', '.join(paths)}"


def _near_miss(source: Source, layout: Layout, folder: Path) -> str:
    """ "; did you mean ...?" for the first part of the source's path that is not there but has a neighbour, or ""."""
    others = {PurePosixPath(other.path).name for other in layout}
    for ending in _endings(source.path):
        place = folder
        for part in ending.parts:
            if not (place / part).exists():
                names = [entry.name for entry in place.iterdir() if entry.name not in others] if place.is_dir() else []
                if hint := near(part, names):
                    return hint
                break
            place /= part
    return ""
