"""A process in a terminal of its own: what it shows, at which width, and keys that are pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Sequence
from types import TracebackType

DEADLINE_S = 60.0
CTRL_C = b"\x03"


class Terminal:
    """Runs a command under a new pseudo-terminal; ``shown`` is all that it wrote so far."""

    def __init__(self, command: Sequence[str], env: dict[str, str], columns: int = 80) -> None:
        self.shown = b""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            # The parent sets the size before it lets go of this pipe of one byte.
            os.read(0, 1)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores it
            os.execvpe(command[0], list(command), env)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.press(b"\n")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        os.close(self._terminal)

    def press(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def _read(self) -> bool:
        """Whether there is more to come."""
        ready, _, _ = select.select([self._terminal], [], [], DEADLINE_S)
        assert ready, f"nothing came: {self.shown!r}"
        try:
            more = os.read(self._terminal, 65536)
        except OSError:  # Linux says so when the other side is gone
            return False
        self.shown += more
        return bool(more)

    def wait_for(self, text: bytes) -> None:
        end = time.monotonic() + DEADLINE_S
        while text not in self.shown:
            assert time.monotonic() < end and self._read(), f"{text!r} is not in {self.shown!r}"

    def finish(self) -> int:
        """All of it, and the exit code."""
        end = time.monotonic() + DEADLINE_S
        while self._read():
            assert time.monotonic() < end, f"it goes on: {self.shown[-1000:]!r}"
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    @property
    def lines(self) -> list[str]:
        """What was shown after the key that let the process begin."""
        return self.shown.decode().replace("\r\n", "\n").split("\n")[1:-1]
