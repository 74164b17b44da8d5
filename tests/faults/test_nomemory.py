"""Every allocation of Python's fails in turn: MemoryError or the right result, and no crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from test_lifecycle import ARGUMENTS

pytest.importorskip("_testcapi", reason="this Python comes without the module that fails")

PROGRAM = """
import _testcapi, faulthandler, sys
faulthandler.enable()
import datamanager
name, arguments, for_ever = sys.argv[1], eval(sys.argv[2]), sys.argv[3] == "True"
dm = datamanager.DataManager(":memory:", durability="normal")
dm.add_model_request("m", [1, 2, 3, 4, 5])
fail, heal = _testcapi.set_nomemory, _testcapi.remove_mem_hooks

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

def outcome(call, at):
    # What Python itself allocates between the lines is a part of the trial.
    result = error = None
    fail(at, 0 if for_ever else at + 1)
    try:
        result = call(*arguments)
        if name in ("batch", "__enter__"):
            with result:
                pass
    except BaseException as caught:
        error = caught
    heal()
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

ready()
outcome(call, 10**9)  # imports what it needs
ready()
wanted, wanted_error = outcome(call, 10**9)
failed = right = at = 0
while right < 60:  # in a row: it no longer comes so far
    ready()
    result, error = outcome(call, at)
    if error is MemoryError:
        failed, right = failed + 1, 0
    elif error is wanted_error and type(result) is type(wanted):
        right += 1
    else:
        what = f"{name}, allocation {at}: {result!r}, {error!r}"
        sys.exit(f"{what}, not {wanted!r}, {wanted_error!r}")
    at += 1
ready()
result, error = outcome(call, 10**9)
assert error is wanted_error, error
print(failed)
"""


def run(
    folder: Path, name: str, arguments: object, for_ever: bool
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, name, repr(arguments), str(for_ever)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize("name", [*ARGUMENTS, "DataManager"])
def test_method(tmp_path: Path, name: str, for_ever: bool) -> None:
    done = run(tmp_path, name, ARGUMENTS.get(name, (":memory:",)), for_ever)
    assert done.returncode == 0, done.stderr
    assert name in ("__enter__", "batch") or int(done.stdout) > 0


@pytest.mark.parametrize("control", ["planted_wrong", "planted_crash"])
def test_control(tmp_path: Path, control: str) -> None:
    assert run(tmp_path, control, (), False).returncode != 0
