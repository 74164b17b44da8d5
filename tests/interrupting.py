"""Ctrl-C in the middle of a call."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

# With a progress function it comes out of that. Without one the core alone looks for signals: it
# comes once there is an unfinished file, or, where that was never seen, when all is done.
PROGRAM = """
import os, signal, sys, threading, datamanager
UNFINISHED = ".datamanager-unfinished"
source, dest, mode = sys.argv[1:]
folder = os.path.dirname(dest)
ended = []
def progress(done, total):
    if done:
        os.kill(os.getpid(), signal.SIGINT)
def interrupt():
    while not ended and not any(name.startswith(UNFINISHED) for name in os.listdir(folder)):
        pass
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
watch = threading.Thread(target=interrupt, daemon=True)
if mode == "untold":
    watch.start()
try:
    try:
        CALL(source, dest, progress if mode == "told" else None)
    finally:
        ended.append(True)
    if mode == "untold":
        watch.join()
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted")
"""


def interrupt_copying(call: str, source: str | Path, dest: str | Path, mode: str) -> None:
    """Of ``call``, with a source, a destination and a progress function, Ctrl-C is the end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("CALL", call), source, dest, mode],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stdout + done.stderr


@contextmanager
def once_locked(path: str, send: Callable[[], None]) -> Iterator[None]:
    """Sent when the call inside, which alone writes, has the lock of the file."""

    def watch() -> None:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            with suppress(sqlite3.OperationalError):
                while True:
                    other.execute("BEGIN IMMEDIATE")
                    other.execute("ROLLBACK")
        send()

    sender = threading.Thread(target=watch)
    sender.start()
    try:
        yield
    finally:
        sender.join()
