"""The module in interpreters that each have their own GIL, at once, in one process."""

from __future__ import annotations

import subprocess
import sys

import pytest

import datamanager

if sys.version_info < (3, 12):
    pytest.skip("Python 3.11 has no interpreters with a GIL of their own", allow_module_level=True)

# Each program runs in a process of its own: a crash is then one test's.
PRELUDE = """
import faulthandler, os, sys, threading
faulthandler.dump_traceback_later(60, exit=True)
if sys.version_info >= (3, 13):
    import _interpreters
    def create():
        return _interpreters.create("isolated")
    def run(interpreter, code):
        failure = _interpreters.run_string(interpreter, code)
        if failure is not None:
            raise RuntimeError(failure.formatted)
else:
    import _xxsubinterpreters as _interpreters
    def create():
        return _interpreters.create(isolated=True)
    run = _interpreters.run_string
path = sys.argv[1]
"""


def program(path: str, code: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", PRELUDE + code, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


# Neither usage() nor cost(): they import datetime and decimal, and several interpreters that do so
# at once crash CPython 3.12 and 3.13, without any module of ours (docs/decisions.md).
WRITERS = """
import datamanager
WORK = '''
import datamanager
dm = datamanager.DataManager(PATH)
for n in range(100):
    assert dm.add_model_request("m", [NUMBER, n, 0, 0, 0]) > 0
dm.add_model_requests("m", [[NUMBER, 100 + n, 0, 0, 0] for n in range(100)])
with dm.batch() as batch:
    for n in range(100):
        dm.add_model_request("m", [NUMBER, 200 + n, 0, 0, 0])
assert len(batch.ids) == 100
mine = dm.get_model_requests("m", start=NUMBER, end=NUMBER + 1)
assert sorted(r.input_tokens for r in mine) == list(range(300))
assert sum(memoryview(mine.input_tokens)) == sum(range(300))
try:
    dm.add_model_request("m", [])
    raise AssertionError
except datamanager.InvalidDataError:
    pass
dm.set_tier_pricing("m", [1, 0, 1000, 1.0, 2.0, False, None])
assert dm.get_model_billing("m").tier_pricing[0].output_price_per_million == 2
dm.cycle = dm.batch(), [dm]
kept = mine, iter(mine), mine.columns, mine.__arrow_c_stream__()
'''
def work(number):
    for turn in range(2):
        interpreter = create()
        try:
            code = WORK.replace("PATH", repr(path)).replace("NUMBER", str(number * 2 + turn))
            run(interpreter, code)
        except BaseException as error:
            failures.append(error)
        _interpreters.destroy(interpreter)  # with its handle open
failures = []
with datamanager.DataManager(path) as dm:
    threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
    for thread in threads: thread.start()
    while any(thread.is_alive() for thread in threads):
        dm.add_model_request("main", [1, 2, 3, 4, 5])
    for thread in threads: thread.join()
    rows = {(r.timestamp, r.input_tokens) for r in dm.get_model_requests("m")}
assert not failures, failures
print(len(rows), len(os.listdir(os.path.dirname(path))))
"""


def test_writers_at_once(path: str) -> None:
    assert program(path, WRITERS) == f"{8 * 300} 1\n"


LATER = """
first = create()
run(first, f"import datamanager; dm = datamanager.DataManager({path!r});"
           "dm.add_model_request('m', [1, 2, 3, 4, 5]); assert dm.usage()[0].requests == 1")
_interpreters.destroy(first)
import datamanager, signal
dm = datamanager.DataManager(path)
dm.add_model_request("m", [1, 2, 3, 4, 5])
child = os.fork()
if child == 0:
    dm.add_model_request("m", [1, 2, 3, 4, 5])
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
rows = [[1, 2, 3, 4, 5]] * 400000
threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
try:
    while True:
        dm.add_model_requests("m", rows)
except KeyboardInterrupt:
    pass
print(len(dm.get_model_requests("m", limit=2)))
"""


def test_hooks_of_an_interpreter_that_came_later(path: str) -> None:
    assert program(path, LATER) == "2\n"


LEFT_OPEN = """
import datamanager
dm = datamanager.DataManager(path)
for _ in range(4):
    run(create(), f"import datamanager; dm = datamanager.DataManager({path!r});"
                  "dm.add_model_request('m', [1, 2, 3, 4, 5])")
print("ends")
"""


def test_exit_with_interpreters_left(path: str) -> None:
    assert program(path, LEFT_OPEN) == "ends\n"
    with datamanager.DataManager(path) as dm:
        assert len(dm.get_model_requests("m")) == 4
