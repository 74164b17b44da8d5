"""The soak of ``make soak``, for a moment: the controls, each a fault that it must find.

In 4 s memory and handles grow by beginning: by how much, the runs with other faults tell. What is
planted has to grow far more than that, and samples that are made up show where the line is.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from typing import Any

import pytest
import soak

FAULTS = {
    "error": "ModelNotFoundError: model 'unknown' is not known",
    "slow": "slow took 1.0",
    "lost": "requests were acknowledged, and",
}
KEPT = {"memory": ["memory", "memory but SQLite's"], "handles": ["handles"]}
OTHERS = {"error": "slow", "slow": "lost", "lost": "error", "memory": "lost", "handles": "lost"}


@functools.cache
def found_with(plant: str) -> str:
    found = subprocess.run(
        [sys.executable, soak.__file__],
        env={**os.environ, "DM_SECONDS": "4", "DM_PLANT": plant},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (found.returncode, found.stderr) == (1, "")
    return found.stdout


@pytest.mark.parametrize("plant", FAULTS)
def test_control(plant: str) -> None:
    assert FAULTS[plant] in found_with(plant)
    assert FAULTS[plant] not in found_with(OTHERS[plant])


def growths(what: str, plant: str) -> list[float]:
    """Of each process."""
    (line,) = re.findall(rf"^{what} +at most (.*)$", found_with(plant), re.M)
    return [float(growth) for growth in re.findall(r"\(([\d.]+)\)", line)]


@pytest.mark.parametrize("plant", KEPT)
def test_control_of_what_is_kept(plant: str) -> None:
    for what in KEPT[plant]:
        grown, otherwise = growths(what, plant), growths(what, OTHERS[plant])
        assert len(grown) == len(otherwise) == soak.PROCESSES
        assert max(grown) > 2 * max(otherwise), what
        number = grown.index(max(grown))
        assert f"process {number}: {what} grew to {grown[number]:.2f} " in found_with(plant)


def result(**samples: list[int]) -> dict[str, Any]:
    flat = {what: [1000] * soak.SAMPLES for what in soak.MEASURES}
    worst = {"add": [0.9, 3.0]}
    return {"added": 5, "errors": [], "calls": {}, "worst": worst, "samples": {**flat, **samples}}


def risen(by: float) -> list[int]:
    """By so much, evenly, in the second half."""
    return [1000] * 200 + [round(1000 + 5 * by * i) for i in range(200)]


THERE = soak.EARLIER + 5


@pytest.mark.parametrize("what", soak.MEASURES)
def test_what_grows_is_told_from_what_is_flat(what: str) -> None:
    judge = functools.partial(soak.judge, found=THERE)
    assert judge([result()]) == []
    begun = [*range(0, 1000, 10), *[1000] * 300]  # a warming up
    wavering = [1000 + 90 * (i % 2) for i in range(400)]
    for samples in (begun, wavering, risen(0.05)):
        assert judge([result(**{what: samples})]) == []
    for samples in (risen(0.3), [1000] * 300 + [1200] * 100):
        (fault,) = judge([result(**{what: samples})])
        assert re.fullmatch(rf"process 0: {what} grew to 1\.[12]\d of what it was", fault)
    (fault,) = judge([result(), result(**{what: risen(1.0)})], found=THERE + 5)
    assert fault.startswith("process 1")


def test_what_is_slow_failed_or_lost_is_told() -> None:
    seldom = {**result(), "worst": {"seldom": [0.5, 1.0]}}
    soak.report([result(), seldom], THERE)
    assert soak.judge([{**result(), "errors": ["add: E: e"]}], THERE) == ["add: E: e"]
    slow = {**result(), "worst": {"add": [1.0, 3.0]}}
    assert soak.judge([slow], THERE) == ["process 0: add took 1.000 s, 3 s on"]
    for found in (THERE - 1, THERE + 1):
        (fault,) = soak.judge([result()], found)
        assert fault == f"{THERE} requests were acknowledged, and {found} are there"
