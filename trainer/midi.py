"""MIDI files to pitch sequences. Parsing is slow, so it runs on all CPUs, and what it gave is cached by content."""

import hashlib
import io
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

from trainer import sources
from trainer.errors import first_line

PITCHES = "".join(map(chr, range(128)))
"""The symbols: a pitch is the character of its MIDI number."""

_NOTES = "C C# D D# E F F# G G# A A# B".split()
PITCH_NAMES = tuple(f"{_NOTES[number % 12]}{number // 12 - 1}" for number in range(len(PITCHES)))
"""What the pitches are called, "C-1" to "G9"; middle C, number 60, is "C4"."""

MAX_BYTES = 8 << 20  # an hour of virtuoso playing is below 1 MiB; parsing takes 140 bytes of memory for each byte
MAX_HIGH_BYTES = 4096
PARSER_VERSION = 1  # part of a cached file's name: raise it when parse() gives other pitches
PARALLEL_BYTES = 1 << 20  # a second or two of parsing: from there on starting processes pays

_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")


class MidiError(ValueError):
    """Why a file gave no pitches, in one line."""


def read_pitches(paths: Sequence[Path]) -> list[str | None]:
    """The pitches of MIDI files, each once parsed and then found in the cache folder, wherever the file lies.

    Progress and warnings go to stderr. Broken files are not cached: their warnings are to be seen every time.

    Returns:
        For every path the pitches of all its notes but drums, as characters of ``PITCHES``, in order of note start, and
        of pitch where notes start together; None, and a line on stderr, for a file that is broken or has no notes.
    """
    folder = sources.cache_folder() / "pitches"
    readings: dict[Path, str | MidiError] = {}
    pending, num_bytes = [], 0
    for path in dict.fromkeys(paths):
        try:
            content = _content(path)
        except MidiError as error:
            readings[path] = error
            continue
        if (pitches := _cached(_place(folder, content))) is not None:
            readings[path] = pitches
        else:
            pending.append(path)
            num_bytes += len(content)
    readings |= zip(pending, _read_all(pending, num_bytes, folder), strict=True)
    for path in dict.fromkeys(paths):
        if isinstance(reading := readings[path], MidiError):
            print(f"skipped {path}: {reading}", file=sys.stderr)
    return [reading if isinstance(reading := readings[path], str) else None for path in paths]


def parse(content: bytes) -> str:
    """The pitches of a MIDI file's content; see :func:`read_pitches`.

    Raises:
        MidiError: for content that is no MIDI file, is corrupt or has no notes.
    """
    if not content.startswith(b"MThd"):
        raise MidiError("not a MIDI file: it does not begin with MThd")
    if int.from_bytes(content[12:14], "big", signed=True) <= 0:
        raise MidiError("its time is not counted in ticks per beat")
    # mido would read such a run as one number of that many digits, for minutes; four bytes are the most a number has.
    if any(run.end() - run.start() > MAX_HIGH_BYTES for run in _HIGH_BYTES.finditer(content)):
        raise MidiError(f"corrupt: more than {MAX_HIGH_BYTES} bytes in a row are above 127")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # e.g. of tempo changes on other tracks than the first: the order is the same
        import pretty_midi

        try:
            midi = pretty_midi.PrettyMIDI(io.BytesIO(content))
        except EOFError:
            raise MidiError("truncated: it ends in the middle of a track") from None
        except Exception as error:  # mido and pretty_midi check little: corrupt bytes raise whatever they lead to
            raise MidiError(f"corrupt: {first_line(error)}") from None
    notes = [note for instrument in midi.instruments if not instrument.is_drum for note in instrument.notes]
    if not notes:
        raise MidiError("it has no notes" + (" but drums" if midi.instruments else ""))
    return "".join(PITCHES[note.pitch] for note in sorted(notes, key=lambda note: (note.start, note.pitch)))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MidiError(f"it cannot be read ({error.strerror})") from None
    if len(content) > MAX_BYTES:
        raise MidiError(f"larger than {MAX_BYTES >> 20} MiB")
    return content


def _place(folder: Path, content: bytes) -> Path:
    return folder / f"{hashlib.sha256(content).hexdigest()}.v{PARSER_VERSION}"


def _cached(place: Path) -> str | None:
    """The cached pitches, one byte each; None where there are none, or where they cannot be pitches."""
    try:
        content = place.read_bytes()
    except OSError:
        return None
    return content.decode("ascii") if content and content.isascii() else None


def _keep(place: Path, pitches: str) -> None:
    """Writes a cached file in one step; a cache that cannot be written costs time, nothing else."""
    part = place.with_name(f"{uuid4().hex}.part")
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(pitches.encode("ascii"))
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


def _read(path: Path, folder: Path) -> str | MidiError:
    """Parses a file into the cache; returns errors, so that one broken file does not stop the others."""
    try:
        content = _content(path)
        pitches = parse(content)
    except MidiError as error:
        return error
    _keep(_place(folder, content), pitches)
    return pitches


def _read_all(paths: Sequence[Path], num_bytes: int, folder: Path) -> list[str | MidiError]:
    if num_bytes < PARALLEL_BYTES:
        return [_read(path, folder) for path in paths]
    with _progress(len(paths)) as advance:
        readings = _read_in_processes(paths, folder, advance)
        for path in paths[len(readings) :]:
            readings.append(_read(path, folder))
            advance()
    return readings


def _read_in_processes(paths: Sequence[Path], folder: Path, advance: Callable[[], None]) -> list[str | MidiError]:
    """What processes, one for each CPU of ours, read of the paths; fewer than all where processes cannot be had.

    They are spawned, not forked: a fork would copy the locks that threads of torch or Ray hold.
    """
    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    readings: list[str | MidiError] = []
    if num_cpus == 1:
        return readings
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_cpus, len(paths)), mp_context=spawn, initializer=_watch_parent) as pool:
        try:
            with _without_interrupts():
                results = pool.map(partial(_read, folder=folder), paths, chunksize=4)
            for reading in results:
                readings.append(reading)
                advance()
        except (BrokenProcessPool, OSError):
            pass  # e.g. one was killed, or the system allows no more
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # else an interrupt would wait for all files
    return readings


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started in here never see Ctrl-C: the parent does, and ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch_parent() -> None:
    """Ends this process with a parent that was killed and could not end it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _progress(num_files: int) -> Iterator[Callable[[], None]]:
    """Shows on stderr, to be told of every file, how parsing goes: on a terminal a bar, in a pipe its start and end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"parsing {num_files} MIDI files", file=sys.stderr)
        start = time.monotonic()
        yield lambda: None
        print(f"parsed {num_files} MIDI files in {time.monotonic() - start:.0f} s", file=sys.stderr)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("parsing MIDI files", total=num_files)
        yield lambda: bars.advance(bar)
