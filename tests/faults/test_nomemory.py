"""Every allocation of Python's fails in turn, once, for ever, and with a random second one:
MemoryError or the right result, and no crash."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import extensions
import pytest
from test_lifecycle import ARGUMENTS

NAMES = [*ARGUMENTS, "DataManager"]
PAIRS = int(os.environ.get("DM_PAIRS", "4400")) // len(NAMES)  # of each method

PROGRAM = """
import faulthandler, os, random, sys
faulthandler.enable()
sys.path.insert(0, sys.argv[4])
import datamanager, nomemory
name, arguments, how = sys.argv[1], eval(sys.argv[2]), sys.argv[3]
dm = datamanager.DataManager(":memory:", durability="normal")
dm.add_model_request("m", [1, 2, 3, 4, 5])
fail, heal = nomemory.fail, nomemory.heal

def planted_wrong():
    try:
        return len([0] * 1000)
    except MemoryError:
        return None

def planted_crash():
    try:
        return len([0] * 1000)
    except MemoryError:
        heal()
        faulthandler._sigsegv()

def pythons_own(error):
    # Without memory for a frame's object Python 3.11 loses the error that was on its way.
    text = str(error)
    lost = text == "error return without exception set" or text.startswith("<function ")
    return MemoryError if type(error) is SystemError and lost else error and type(error)

def outcome(at, again=-1):
    # What Python itself allocates between the lines is a part of the trial.
    global taken
    ready()
    result = error = None
    fail(at, again, how == "for ever")
    try:
        result = call(*arguments)
        if name in ("batch", "__enter__"):
            with result:
                pass
    except BaseException as caught:
        error = caught
    taken = heal()
    return result, pythons_own(error)

def call(*arguments):
    if name.startswith("planted"):
        return globals()[name](*arguments)
    if name == "set_pricing":
        return dm.set_pricing(*arguments, hourly_price=1.0)
    if name == "DataManager":
        return datamanager.DataManager(*arguments).get_models()
    return getattr(dm, name)(*arguments)

def ready():
    global dm
    if dm.closed:
        dm = datamanager.DataManager(":memory:", durability="normal")
    if "m" not in dm.get_models():
        dm.add_model_request("m", [1, 2, 3, 4, 5])

outcome(-1)  # imports what it needs
wanted, wanted_error = outcome(-1)

def failed(at, again=-1):
    result, error = outcome(at, again)
    if error is MemoryError:
        return True
    if error is wanted_error and type(result) is type(wanted):
        return False
    what = f"{name}, allocations {at}, {again}: {result!r}, {error!r}"
    sys.exit(f"{what}, not {wanted!r}, {wanted_error!r}")

def each():
    count = right = at = 0
    while right < 60:  # in a row: it no longer comes so far
        count, right = (count + 1, 0) if failed(at) else (count, right + 1)
        at += 1
    return count

def pairs(count):
    most, chance = taken, random.Random(name)
    firsts = [chance.randrange(most) for _ in range(count)]
    return sum(failed(first, first + chance.randint(1, 40)) for first in firsts)

count = pairs(int(os.environ["PAIRS"])) if how == "pairs" else each()
assert outcome(-1)[1] is wanted_error
print(count)
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extensions.build(tmp_path_factory.mktemp("nomemory"), "tests/faults/nomemory.c").parent


def run(
    folder: Path, module: Path, name: str, arguments: object, how: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, name, repr(arguments), how, str(module)]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PAIRS": str(PAIRS)},
        capture_output=True,
        text=True,
        timeout=120 + PAIRS,
        check=False,
    )


@pytest.mark.parametrize("how", ["once", "for ever", "pairs"])
@pytest.mark.parametrize("name", NAMES)
def test_method(tmp_path: Path, module: Path, name: str, how: str) -> None:
    done = run(tmp_path, module, name, ARGUMENTS.get(name, (":memory:",)), how)
    assert done.returncode == 0, done.stderr
    assert name in ("__enter__", "batch") or int(done.stdout) > 0


@pytest.mark.parametrize("how", ["once", "pairs"])
@pytest.mark.parametrize("control", ["planted_wrong", "planted_crash"])
def test_control(tmp_path: Path, module: Path, control: str, how: str) -> None:
    done = run(tmp_path, module, control, (), how)
    if control == "planted_crash":
        assert done.returncode == -signal.SIGSEGV
    else:
        assert done.returncode == 1
        assert re.fullmatch(
            r"planted_wrong, allocations \d+, -?\d+: None, None, not 1000, None\n", done.stderr
        )
