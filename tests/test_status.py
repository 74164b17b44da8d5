"""What runs, since when, and what it did since then."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing
from typing import Any

import numpy
import pytest

from datamanager import CorruptDataError, DataManager, InvalidDataError, ModelNotFoundError


def test_a_model_that_runs(dm: DataManager) -> None:
    now = time.time()
    dm.add_model_request("m", [now - 9000, 1, 2, 0, 1])
    dm.add_model_runtime_start("m", now - 8000)
    dm.update_model_runtime_end("m", now - 7000)
    dm.add_model_runtime_start("m", now - 100)
    dm.update_model_runtime_end("m", now)
    dm.add_model_request("m", [now - 50, 10, 20, 0, 10])
    dm.add_model_request("m", [now - 60, 100, 200, 0, 100])  # written later, asked earlier
    status = dm.get_model_status("m", start=now - 10_000, end=now, stale_after=3600)
    assert (status.model, status.running, status.runs) == ("m", True, 2)
    assert status.since == status.started == now - 100 and status.last_heartbeat == now
    assert status.uptime_seconds == pytest.approx(100)
    assert status.total_uptime_seconds == pytest.approx(1100)
    assert status.availability == pytest.approx(0.11)
    assert status.last_request == now - 50
    assert (status.requests, status.input_tokens, status.output_tokens) == (2, 110, 220)


def test_a_model_whose_heartbeat_is_old(dm: DataManager) -> None:
    now = time.time()
    dm.add_model_runtime_start("m", now - 1000)
    dm.update_model_runtime_end("m", now - 500)
    status = dm.get_model_status("m")
    assert not status.running and status.since == status.last_heartbeat == now - 500
    assert dm.get_model_status("m", stale_after=3600).running
    assert dm.get_model_status("m", stale_after=numpy.int64(3600)).running


def test_a_model_that_never_ran(dm: DataManager) -> None:
    dm.add_model_request("m", [1, 1, 2, 0, 1])
    status = dm.get_model_status("m")
    assert not status.running and status.runs == 0 and status.availability == 0.0
    assert status.since is status.started is status.last_heartbeat is None
    assert (status.requests, status.last_request) == (1, 1.0)


def test_runs_that_overlap_count_once(dm: DataManager) -> None:
    for begin, end in ((0, 40), (20, 60), (30, 35), (80, 200)):
        dm.add_model_runtime_start("m", begin)
        dm.update_model_runtime_end("m", end)
    assert dm.get_model_status("m", start=0, end=100).availability == 0.8


def test_a_run_that_ends_before_it_starts(dm: DataManager, path: str) -> None:
    """Of a clock that was set back, or of another program: no seconds, as in usage."""
    dm.add_model_runtime_start("m", 100.0)
    dm.update_model_runtime_end("m", 160.0)
    dm.add_model_runtime_start("m", 500.0)
    with closing(sqlite3.connect(path)) as file:
        table = dm.get_safe_model_name("m") + "_runtime"
        file.execute(f"UPDATE {table} SET end_time=100 WHERE start_time=500")
        file.commit()
    status = dm.get_model_status("m", start=0, end=600)
    assert (status.runs, status.uptime_seconds, status.total_uptime_seconds) == (2, 0, 60)
    assert status.total_uptime_seconds == dm.usage("m").total.runtime_seconds
    assert status.availability == 0.1


def test_seconds_of_many_runs(dm: DataManager) -> None:
    """Their sum is rounded once."""
    for _ in range(10):
        dm.add_model_runtime_start("m", 0)
        dm.update_model_runtime_end("m", 0.1)
    assert dm.get_model_status("m").total_uptime_seconds == 1.0


def test_all(dm: DataManager) -> None:
    now = time.time()
    table = dm.get_status()
    assert [row.model for row in table] == [None] and not table.program.running
    dm.add_program_runtime_start(now - 1000)
    dm.update_program_runtime_end(now)
    dm.add_model_request("a", [now - 2000, 1, 1, 0, 1])
    dm.add_model_request("a", [now - 10, 2, 2, 0, 2])
    dm.add_model_request("b", [now - 20, 4, 4, 0, 4])
    table = dm.get_status(stale_after=3600, minutes=60)
    assert [row.model for row in table] == [None, "a", "b"]
    assert table.program.running and table.program.requests == 2
    assert table.program.input_tokens == 6 and table.program.last_request == now - 10
    assert [row.requests for row in table.models] == [2, 1]
    assert "yes" in str(table) and "27.8%" in str(table)
    assert list(table["running"]) == [1, 0, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stale_after": 0}, "stale_after must be seconds above 0, not 0"),
        ({"stale_after": True}, "stale_after must be seconds above 0, not True"),
        ({"stale_after": "x"}, "stale_after must be seconds above 0, not 'x'"),
        ({"stale_after": 10**400}, "stale_after must be seconds above 0, not 10"),
        ({"start": 5, "end": 5}, "end 5.0 must be after start 5.0"),
        ({"minutes": 5, "end": 5}, "exclude each other"),
    ],
)
def test_refused(dm: DataManager, options: dict[str, Any], said: str) -> None:
    dm.add_model_request("m", [1, 1, 1, 0, 1])
    with pytest.raises(InvalidDataError, match=said):
        dm.get_status(**options)
    with pytest.raises(InvalidDataError, match=said):
        dm.get_model_status("m", **options)
    with pytest.raises(ModelNotFoundError):
        dm.get_model_status("unknown")


class Deleting(DataManager):
    """As if somebody else deleted a model just after the names were read."""

    def get_models(self) -> list[str]:
        names = super().get_models()
        self.delete_model_tables("a")
        return names


def test_a_model_that_is_deleted_meanwhile(path: str) -> None:
    with Deleting(path, models=["a", "b"]) as dm:
        assert [row.model for row in dm.get_status()] == [None, "b"]


def test_runs_of_more_seconds_than_a_float_holds(dm: DataManager, path: str) -> None:
    for model in ("a", "b"):
        for _ in range(2):
            dm.add_model_runtime_start(model, 0)
        table = f"{dm.get_safe_model_name(model)}_runtime"
        with closing(sqlite3.connect(path)) as file, file:  # this package does not write such
            file.execute(f"UPDATE {table} SET end_time=1.7e308")
    assert dm.get_model_status("a").total_uptime_seconds == math.inf
    assert dm.usage(start=0, end=1.7e308).total.runtime_seconds == math.inf


def test_a_run_of_another_program_whose_hours_cannot_be_billed(dm: DataManager, path: str) -> None:
    dm.set_pricing("m", hourly_price=1.0, use_tier_pricing=False)
    dm.add_model_runtime_start("m", 0)
    table = f"{dm.get_safe_model_name('m')}_runtime"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"UPDATE {table} SET end_time=1e20")
    said = rf"{table} row 1: end_time must be before 2\^63 .*, not 1e\+20"
    with pytest.raises(CorruptDataError, match=said):
        dm.usage("m")
    (finding,) = dm.check()
    assert (finding.severity, finding.table, finding.row) == ("error", table, 1)
    assert dm.usage("m", start=0, end=7200)[0].cost == 2
    dm.update_model_runtime_end("m", 3600)
    assert dm.usage("m")[0].cost == 1
