"""close() and the end of the interpreter while threads are busy: soon, and without a crash.

A schedule is a kind of ending, at a moment of its own. The controls crash, and take too long.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from datamanager import DataManager

SCHEDULES, SHARES = int(os.environ.get("DM_SCHEDULES", "50")), 5
KINDS = ("close", "close twice", "close the last", "exit", "exit closed", "raise", "collect")
MOST_SECONDS = 2.0
# A thread may be in the middle of a batch: that its writes are dropped is said, and no failure.
SAID = ("-W", "ignore:closed with a batch open")
PROGRAM = """
import faulthandler, gc, random, sys, threading, time
faulthandler.enable()
from datamanager import ClosedError, DataManager

kind, wait_ms, path = sys.argv[1], float(sys.argv[2]), sys.argv[3]
dms = [DataManager(path) for _ in range(2)]
dms[0].add_model_requests("m", [[float(i), 1, 2, 3, 4] for i in range(20_000)])
dms[0].add_program_runtime_start(1.0)
daemon = kind.startswith(("exit", "raise", "planted"))
going = threading.Barrier(7)

def batch(dm):
    with dm.batch():
        dm.add_model_request("m", [1.0, 2, 3, 4, 5])
        dm.update_program_runtime_end(9.0)

CALLS = [
    lambda dm: dm.add_model_request("m", [1.0, 2, 3, 4, 5]),
    lambda dm: dm.add_model_requests("m", [[1.0, 2, 3, 4, 5]] * 3000),
    lambda dm: list(dm.get_model_requests("m")),
    lambda dm: dm.usage(buckets=10),
    lambda dm: dm.backup(f"{path}.{threading.get_ident()}", overwrite=True),
    lambda dm: dm.prune(10_000.0, tz="UTC"),
    lambda dm: dm.check(),
    batch,
]

def work(number):
    dm = dms[number % 2]
    calls = random.Random(number)
    going.wait()
    try:
        while True:
            calls.choice(CALLS)(dm)
    except ClosedError:
        pass

threads = [threading.Thread(target=work, args=[i], daemon=daemon) for i in range(6)]
for thread in threads:
    thread.start()
going.wait()
time.sleep(wait_ms / 1000)
print(time.monotonic(), flush=True)
if kind in ("close", "close twice"):
    closers = [threading.Thread(target=dm.close) for dm in dms * (1 + (kind == "close twice"))]
    for thread in closers:
        thread.start()
elif kind in ("close the last", "exit closed"):
    for dm in dms:
        dm.close()
elif kind == "raise":
    sys.excepthook = lambda *error: None
    raise KeyError
elif kind == "collect":
    dms[0].close()
    other = dms.pop()
    other.itself = [other]
    other.close()
    del other
    gc.collect()
elif kind == "planted crash":
    faulthandler._sigsegv()
elif kind == "planted wait":
    time.sleep(2)
"""


def end(folder: Path, kind: str, wait_ms: float) -> tuple[int, float]:
    """The exit code, and how long the ending took."""
    done = subprocess.run(
        [sys.executable, *SAID, "-c", PROGRAM, kind, str(wait_ms), str(folder / "usage.db")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    took = time.monotonic() - float(done.stdout)
    assert "planted" in kind or done.stderr == "", done.stderr
    return done.returncode, took


@pytest.mark.parametrize("share", range(SHARES))
def test_schedules(tmp_path: Path, share: int) -> None:
    for number in range(share, SCHEDULES, SHARES):
        kind = KINDS[number % len(KINDS)]
        folder = tmp_path / str(number)
        folder.mkdir()
        code, took = end(folder, kind, random.Random(number).uniform(0, 80))
        print(f"{kind}: {took * 1000:.0f} ms")
        assert code == (1 if kind == "raise" else 0) and took < MOST_SECONDS, (kind, code, took)
        with closing(DataManager(folder / "usage.db")) as dm:
            assert dm.check() == []


def test_control_of_crashes(tmp_path: Path) -> None:
    assert end(tmp_path, "planted crash", 1)[0] == -signal.SIGSEGV


def test_control_of_waits(tmp_path: Path) -> None:
    assert end(tmp_path, "planted wait", 1)[1] > MOST_SECONDS
