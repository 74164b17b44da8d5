"""The soak of ``make soak``, for a moment: the controls, each a fault that it must find."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("soak.py")
FAULTS = {
    "error": "ModelNotFoundError: model 'unknown' is not known",
    "slow": "slow took 1.0",
    "memory": "memory grew to",
    "handles": "handles grew to",
    "lost": "requests were acknowledged, and",
}


@pytest.mark.parametrize("plant", FAULTS)
def test_control(plant: str) -> None:
    found = subprocess.run(
        [sys.executable, SOAK],
        env={**os.environ, "DM_SECONDS": "4", "DM_PLANT": plant},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (found.returncode, found.stderr) == (1, "")
    assert FAULTS[plant] in found.stdout
