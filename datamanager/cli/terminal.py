"""What a command knows of the terminal that it may be writing to."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO, TypeVar

    Item = TypeVar("Item")

_REDRAW_S = 0.1
_MANY = 100_000
_REPEAT_S = 2.0  # where lines cannot be drawn over


class Paint:
    """Colours, where a terminal shows them and NO_COLOR is not set."""

    def __init__(self, stream: TextIO) -> None:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._on = stream.isatty() and not plain

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._on and text else text

    def bold(self, text: str) -> str:
        return self._painted(text, "1")

    def red(self, text: str) -> str:
        return self._painted(text, "31")


def columns(stream: TextIO) -> int | None:
    """How many the terminal has; None where it is a file or a pipe, which have no end."""
    import shutil

    return shutil.get_terminal_size().columns if stream.isatty() else None


class note:
    """What is being done, on the terminal's last line while it is."""

    def __init__(self, text: str) -> None:
        self._text = f"{text} …"

    def __enter__(self) -> None:
        if sys.stderr.isatty():
            print(self._text, end="\r", file=sys.stderr, flush=True)

    def __exit__(self, *error: object) -> None:
        if sys.stderr.isatty():
            print(" " * len(self._text), end="\r", file=sys.stderr, flush=True)


def progress_to_a_file(items: Iterable[Item], total: int, text: str) -> Iterable[Item]:
    """``progress``, where it takes a while and the terminal shows nothing else."""
    if total < _MANY or sys.stdout.isatty() or not sys.stderr.isatty():
        return items
    return progress(items, total, text)


class Meter:
    """Tells on standard error how far a job is; ``text`` has "{done} of {total}". A total of 0 is
    one that is not known, where something is done. ``then`` says what follows the end."""

    def __init__(self, text: str, then: str = "") -> None:
        self._text = text
        self._then = then
        self._live = sys.stderr.isatty()
        self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told > (_REDRAW_S if self._live else _REPEAT_S) or done == total:
            self._told = now
            end = "\r" if self._live and done != total else "\n"
            text = self._text if total or not done else self._text.replace(" of {total}", "")
            line = text.format(done=f"{done:,}", total=f"{total:,}")
            line += self._then if done == total else ""
            print(line, end=end, file=sys.stderr, flush=True)


def meter_of_a_call(text: str, then: str = "") -> Meter | None:
    """One for a call that reports its progress; None where no terminal shows it."""
    return Meter(text, then) if sys.stderr.isatty() else None


def progress(items: Iterable[Item], total: int, text: str) -> Iterator[Item]:
    """The items, telling how far they are."""
    meter = Meter(text)
    for done, item in enumerate(items, 1):
        yield item
        meter(done, total)


_HOME, _CLEAR, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"


class Screen:
    """The whole terminal, on which each drawing takes the place of the one before.

    Nothing of it has to be undone: whatever ends the program leaves an ordinary terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begin = _CLEAR + _HOME

    def draw(self, lines: list[str]) -> None:
        """As many of the lines as there is room for."""
        import shutil

        room = shutil.get_terminal_size().lines - 1
        cut = lines if len(lines) <= room else [*lines[: room - 1], "…"]
        text = "".join(f"{line}{_CLEAR_LINE}\n" for line in cut)
        self._stream.write(f"{self._begin}{text}{_CLEAR_BELOW}")
        self._stream.flush()
        self._begin = _HOME


def screen(stream: TextIO) -> Screen | None:
    """One, where the terminal can draw over what it shows."""
    able = stream.isatty() and os.environ.get("TERM") != "dumb"
    return Screen(stream) if able else None
