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


def progress(items: Iterable[Item], total: int, text: str) -> Iterator[Item]:
    """The items, telling on standard error how far they are; ``text`` has {done} and {total}."""
    live = sys.stderr.isatty()
    shown = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - shown > (_REDRAW_S if live else _REPEAT_S) or done == total:
            shown = now
            end = "\r" if live and done < total else "\n"
            line = text.format(done=f"{done:,}", total=f"{total:,}")
            print(line, end=end, file=sys.stderr, flush=True)
