"""What was pruned answers as before; and nothing is lost or counted twice, whatever happens."""

from __future__ import annotations

import math
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from commands import COMMAND, environment, fill, run
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from terminals import Terminal
from test_cli_forms import json_of

import datamanager
from datamanager import DataManager, Finding, InvalidDataError, Pruned

HOUR, DAY = 3600, 86400
UNITS = {"hour": HOUR, "day": DAY}
BEGIN = 1_769_731_200  # 2026-01-30T00:00:00Z: a month begins two days later
DAYS = 5
TIERS: list[list[Any]] = [
    [1, 0, 1000, 1.25, 2.5, True, 0.5],
    [2, 1000, 3000, 2.5, 3.75, True, 0.25],
    [3, 3000, 0, 4.0, 5.0, False, 0.0],
]
OTHERS: list[list[Any]] = [
    [1, 0, 700, 0.1, 0.3, False, 0],
    [2, 900, 2500, 7.0, 0.7, True, 0.05],
]
STRATEGIES = (None, "graduated", "volume", "cumulative")


def ask(dm: DataManager, by: float, strategies: tuple[str | None, ...] = STRATEGIES) -> list[Any]:
    """Everything that is asked of money and use, with edges at the buckets."""
    end = BEGIN + DAYS * DAY
    asked: list[Any] = []
    for strategy in strategies:
        for prices in ("historical", "current"):
            how: Any = {"strategy": strategy, "prices": prices, "tz": "UTC"}
            asked.append(list(dm.usage(start=BEGIN, end=end, by=by, **how)))
            asked.append(list(dm.usage(**how)))
            asked.append(dm.invoice(start=BEGIN + DAY, end=end, **how).total)
    return asked


def some_rows(count: int, seed: int = 1, days: float = DAYS) -> list[list[float]]:
    rnd = random.Random(seed)
    rows: list[list[float]] = []
    for _ in range(count):
        tokens = [rnd.choice((0, 5, 400, 1100, 5000)) + rnd.randrange(90) for _ in range(4)]
        rows.append([BEGIN + rnd.random() * days * DAY, *tokens])
    return rows


def filled(path: str, count: int = 5000, **options: Any) -> DataManager:
    dm = DataManager(path, durability="normal", **options)
    dm.set_pricing("m", tiers=TIERS, strategy="cumulative")
    dm.set_pricing("m", tiers=OTHERS, effective_from=BEGIN + 1.5 * DAY)
    dm.set_pricing("m", strategy="graduated", effective_from=BEGIN + 3 * DAY + 60)
    dm.add_model_requests("m", some_rows(count))
    add_runs(dm, "m", [(BEGIN + i * 2000, i * 37 % 3000 + 0.1 * i) for i in range(150)])
    dm.set_pricing("hourly", hourly_price=0.7, use_tier_pricing=False)
    dm.set_pricing("hourly", hourly_price=0.9, effective_from=BEGIN + 2.2 * DAY)
    dm.add_model_requests("hourly", some_rows(50, 2))
    add_runs(dm, "hourly", [(BEGIN + i * 700.25, 650.125) for i in range(400)])
    return dm


def wrong(dm: DataManager, quick: bool = False) -> list[Finding]:
    """What check() finds, but for the gap between tiers that is there to be found."""
    return [f for f in dm.check(quick) if not f.text.startswith("no tier covers")]


def add_runs(dm: DataManager, model: str, runs: list[tuple[float, float]]) -> None:
    with dm.batch():
        for start, seconds in runs:
            dm.add_model_runtime_start(model, start)
            dm.update_model_runtime_end(model, start + seconds)


# ---- the same answers ----

A_TIME = st.one_of(
    st.integers(0, DAYS * 24).map(lambda hour: BEGIN + hour * HOUR),
    st.integers(0, DAYS * DAY).map(lambda second: BEGIN + second),
    st.floats(BEGIN, BEGIN + DAYS * DAY),
)
TOKENS = st.one_of(st.integers(0, 20), st.integers(0, 4000), st.just(2**53))
ROWS = st.lists(st.tuples(A_TIME, TOKENS, TOKENS, TOKENS, TOKENS), min_size=1, max_size=30)
RUNS = st.lists(st.tuples(A_TIME, st.floats(0, 2 * DAY)), max_size=8)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "tiers": st.sampled_from([TIERS, OTHERS, []]),
        "hourly_price": st.floats(0, 10),
        "use_tier_pricing": st.booleans(),
        "strategy": st.sampled_from(STRATEGIES[1:]),
    },
).filter(bool)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("rows"), ROWS),
        st.tuples(st.just("runs"), RUNS),
        st.tuples(st.just("prune"), A_TIME),
        st.tuples(st.just("prices"), st.tuples(st.integers(-1, DAYS), CHANGES)),
    ),
    min_size=2,
    max_size=8,
)


def change(dm: DataManager, kind: str, what: Any) -> None:
    if kind == "rows":
        dm.add_model_requests("m", what)
    if kind == "runs":
        add_runs(dm, "m", what)
    if kind == "prices":
        day, prices = what
        dm.set_pricing("m", effective_from=None if day < 0 else BEGIN + day * DAY, **prices)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS, RUNS, CHANGES, STEPS, st.sampled_from(["hour", "day"]))
def test_usage_stays(rows: Any, runs: Any, prices: Any, steps: Any, keep: Any) -> None:
    """One of two databases is pruned again and again; both are asked, and its own past is."""
    with DataManager(":memory:") as whole, DataManager(":memory:") as dm:
        pruned = False
        compared = STRATEGIES
        for kind, what in [("prices", (-1, prices)), ("rows", rows), ("runs", runs), *steps]:
            if kind == "prune":
                before = ask(dm, UNITS[keep])
                dm.prune(what, keep, tz="UTC")
                assert ask(dm, UNITS[keep]) == before
                pruned = True
            if kind == "rows" and pruned:  # one of a pruned time counts after those that were there
                compared = ("graduated", "volume")
            for one in (whole, dm):
                change(one, kind, what)
            assert ask(dm, UNITS[keep], compared) == ask(whole, UNITS[keep], compared)
            assert dm._time_span(None) == whole._time_span(None)


def test_the_answers_stay_between_any_two_steps(path: str) -> None:
    """Also with requests that come late, which belong among those that are still there."""
    with filled(path, 30_000) as dm:
        wanted, steps = ask(dm, HOUR), 0

        def look(done: int, total: int) -> None:
            nonlocal wanted, steps
            steps += 1
            assert 0 <= done <= total
            assert ask(dm, HOUR) == wanted
            if steps % 3 == 0:
                dm.add_model_requests("m", some_rows(20, steps, days=4))
                wanted = ask(dm, HOUR)

        dm.prune(BEGIN + 4 * DAY, tz="UTC", progress=look)
        assert steps > 3 and ask(dm, HOUR) == wanted


def test_late_requests_of_an_hour_that_is_yet_to_go(path: str, tmp_path: Path) -> None:
    """In bursts, each before those that came with the last: they go in the order of their times."""
    with filled(path, 30_000) as dm, filled(str(tmp_path / "twin.db"), 30_000) as twin:
        late = [row[1:] for row in some_rows(100, 3)]

        def burst(done: int, total: int) -> None:
            for _ in range(min(5, len(late))):
                row = [BEGIN + 4 * DAY - 2 * HOUR + 30 * len(late), *late.pop()]
                for handle in (dm, twin):
                    handle.add_model_request("m", row)

        dm.prune(BEGIN + 4 * DAY, tz="UTC", progress=burst)
        assert len(late) < 80  # four bursts at least
        assert ask(dm, HOUR) == ask(twin, HOUR) and wrong(dm) == []


def test_a_late_request_from_before_all_that_has_gone(path: str) -> None:
    with filled(path, 30_000) as dm:
        dm.add_model_request("m", [BEGIN, 5, 5, 0, 5])
        late: list[float] = []

        def add(done: int, total: int) -> None:
            if done > 0 and not late:
                late.append(BEGIN + 0.125)
                dm.add_model_request("m", [*late, 7, 7, 0, 7])

        dm.prune(BEGIN + 4 * DAY, tz="UTC", progress=add)
        assert late and min(r.timestamp for r in dm.get_model_requests("m")) >= BEGIN + 4 * DAY
        assert dm.usage("m")[0].requests == 30_002 and wrong(dm) == []


def test_a_request_that_is_given_a_later_time_meanwhile_stays(path: str) -> None:
    with filled(path, 30_000) as dm:
        old = [r for r in dm.get_model_requests("m") if r.timestamp < BEGIN + DAY]
        last = max(old, key=lambda request: request.timestamp)
        later: list[float] = []

        def move(done: int, total: int) -> None:
            if not later:
                later.append(BEGIN + 9 * DAY)
                table = dm.get_safe_model_name("m") + "_requests"
                other_program(path, f"UPDATE {table} SET timestamp={later[0]} WHERE id={last.id}")

        dm.prune(BEGIN + DAY, tz="UTC", progress=move)
        left = {request.id: request.timestamp for request in dm.get_model_requests("m")}
        assert left[last.id] == later[0] and min(left.values()) >= BEGIN + DAY
        assert dm.usage("m")[0].requests == 30_000 and wrong(dm) == []


def test_prices_of_later(path: str, tmp_path: Path) -> None:
    """New prices with other tiers, dated back into the pruned time, count as for the requests."""
    with filled(path) as dm, filled(str(tmp_path / "whole.db")) as whole:
        dm.prune(BEGIN + 4.3 * DAY, tz="UTC")
        for one in (dm, whole):
            one.set_pricing("m", tiers=OTHERS, effective_from=BEGIN + 7 * HOUR)
            one.set_pricing("hourly", hourly_price=3.25, effective_from=BEGIN + 30 * HOUR)
        assert ask(dm, HOUR) == ask(whole, HOUR)
        with pytest.raises(InvalidDataError, match="pruned and are kept as one sum"):
            dm.set_pricing("m", tiers=TIERS, effective_from=BEGIN + 7.5 * HOUR)
        assert ask(dm, HOUR) == ask(whole, HOUR)


def test_setting_up_again_does_not_rewrite_pruned_costs(dm: DataManager) -> None:
    """Prices of now replace those before only where nothing was billed by them."""
    dm.set_pricing("m", tiers=TIERS)
    now = time.time()
    dm.add_model_requests("m", [[now + 1, 2000, 20, 0, 2000], [now + 2, 10, 20, 0, 10]])
    dm.prune(now + 10)
    assert dm.get_model_requests("m") == []
    dm.set_pricing("m", tiers=OTHERS)
    assert len(dm.get_price_history("m")) == 2
    with DataManager(":memory:") as other:  # the control: without requests they are set up anew
        other.set_pricing("m", tiers=TIERS)
        other.set_pricing("m", tiers=OTHERS)
        assert len(other.get_price_history("m")) == 1


# ---- edges inside a sum ----


def test_the_longest_refusal_is_whole(dm: DataManager) -> None:
    dm.add_model_requests("m" * 60, [[BEGIN + second, 10, 1, 0, 10] for second in (600, 1200)])
    dm.prune(BEGIN + DAY, tz="UTC")
    with pytest.raises(InvalidDataError, match=r"take days in the time zone of the prune$"):
        dm.usage(start=BEGIN + 700)


def test_an_edge_inside_a_sum_is_refused(dm: DataManager) -> None:
    at = BEGIN + 10 * HOUR
    dm.add_model_requests("m", [[at + second, 10, 1, 0, 10] for second in (600, 1200, 4000)])
    dm.prune(BEGIN + DAY, tz="UTC")
    assert [row.requests for row in dm.usage("m", start=at, end=at + 7200, by="hour")] == [2, 1]
    # Both requests of the sum are on one side of these, though they are inside the hour.
    assert dm.usage("m", start=at + 600)[0].requests == 3
    assert dm.usage("m", end=at + 600)[0].requests == 0
    assert dm.usage("m", start=at + 1200.5)[0].requests == 1
    sums = "'m' from 2026-01-30 10:10:00 UTC to 2026-01-30 10:20:00 UTC were pruned and"
    for edge in (at + 601, at + 1200):
        with pytest.raises(InvalidDataError, match=f"the requests of {sums} .* of the prune$"):
            dm.usage("m", start=edge)
        with pytest.raises(InvalidDataError, match="as one sum"):
            dm.usage("m", end=edge)
        with pytest.raises(InvalidDataError, match="as one sum"):  # a billing period begins there
            dm._usage(["m"], [0, math.inf], [edge], "cumulative", False)
    # A status has no costs: there a sum counts where it begins.
    dm.add_model_runtime_start("m", at + 601)
    assert dm.get_status().models[0].requests == 1


def shown(moment: float) -> str:
    return datetime.fromtimestamp(math.floor(moment), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


PRICES: list[Callable[[DataManager, float], object]] = [
    lambda dm, at: dm.set_pricing("m", strategy="volume", effective_from=at),
    lambda dm, at: dm.add_tier_pricing("m", [9, 10**6, 0, 1, 1, False, 0], effective_from=at),
    lambda dm, at: dm.update_tier_pricing("m", TIERS[0], effective_from=at),
    lambda dm, at: dm.delete_tier_pricing("m", 1, effective_from=at),
    lambda dm, at: dm.update_hourly_price("m", 1.0, effective_from=at),
    lambda dm, at: dm.update_billing_method("m", False, effective_from=at),
]


@pytest.mark.parametrize("edit", PRICES)
def test_a_price_that_would_part_a_sum_is_refused(dm: DataManager, edit: Any) -> None:
    """Nothing could be answered afterwards. One that begins at its first request or behind it is
    none."""
    at = BEGIN + 10 * HOUR
    dm.set_pricing("m", tiers=TIERS[:2])
    dm.add_model_requests("m", [[at + second, 10, 1, 0, 10] for second in (600, 1200, 4000)])
    add_runs(dm, "m", [(at + second, 20) for second in (100, 200, 9000)])
    dm.prune(BEGIN + DAY, tz="UTC")
    before = (dm.get_price_history("m"), dm.get_model_billing("m"), list(dm.usage()))
    for what, moment in [("requests", 601), ("requests", 1200), ("runs", 100.5), ("runs", 219.5)]:
        match = rf"a price of 'm' from {shown(at + moment)} on would part the {what} of 'm' from"
        with pytest.raises(InvalidDataError, match=match):
            edit(dm, at + moment)
        with pytest.raises(InvalidDataError, match=match), dm.batch():
            edit(dm, at + moment)
    assert (dm.get_price_history("m"), dm.get_model_billing("m"), list(dm.usage())) == before
    for moment in (-1, 100, 220, 600, 1200.5, 3600, 5000):
        edit(dm, at + moment)
        assert dm.usage("m", by="hour", tz="UTC").total.requests == 3
        dm.set_pricing("m", tiers=TIERS[:2], effective_from=at + moment)
    assert wrong(dm) == []


def test_a_price_from_now_on_is_taken_whatever_was_pruned(dm: DataManager) -> None:
    dm.set_pricing("m", tiers=TIERS)
    now = time.time()
    dm.add_model_requests("m", [[at, 10, 1, 0, 10] for at in (now - 2, now - 1, now)])
    dm.prune(now + 1, "day")
    dm.set_pricing("m", tiers=OTHERS)
    assert len(dm.get_price_history("m")) == 2 and dm.usage("m")[0].requests == 3


@pytest.mark.parametrize("priced", ["new", "old"])
@pytest.mark.parametrize("what", ["requests", "runs"])
def test_a_merge_that_would_part_a_sum_is_refused(dm: DataManager, priced: str, what: str) -> None:
    """Prices of the new name count for both; where it has none, those of the old."""
    at, other = BEGIN + 10 * HOUR, {"new": "old", "old": "new"}[priced]
    dm.set_pricing(priced, tiers=TIERS)
    dm.set_pricing(priced, tiers=OTHERS, effective_from=at + 1800)
    for name in ("new", "old"):
        dm.add_model_requests(name, [[at + 9000, 10, 1, 0, 10]], request_ids=["a"])
        if what == "requests":
            dm.add_model_requests(name, [[at + second, 10, 1, 0, 10] for second in (600, 3000)])
        else:
            add_runs(dm, name, [(at + second, 10) for second in (600, 3000, 9000)])
    dm.prune(at + 7200, tz="UTC")

    def all_there_is() -> list[Any]:
        asked = [list(dm.usage(by="hour", tz="UTC")), dm.invoice(tz="UTC").total, dm.get_models()]
        return asked + [
            [dm.get_price_history(name), dm.get_model_requests(name), dm.get_model_runtime(name)]
            for name in ("new", "old")
        ]

    before = all_there_is()
    match = f"a price of '{priced}' from .* would part the {what} of '{other}' from .* as one sum"
    with pytest.raises(InvalidDataError, match=match):
        dm.rename_model("old", "new")
    assert all_there_is() == before and wrong(dm) == []
    dm.prune(at + 7200, None, models=other)  # who wants to, gives up what stands in the way
    dm.rename_model("old", "new")
    assert dm.usage("new", by="hour", tz="UTC").total.requests == (4 if what == "requests" else 2)


def test_a_price_inside_a_sum_is_found(path: str) -> None:
    """Of before they were refused."""
    with filled(path, 500) as dm:
        dm.prune(BEGIN + 3 * DAY, tz="UTC")
        (first, last) = sum_of_two(path)
        other_program(
            path, f"UPDATE datamanager_price_changes SET effective_from={last} WHERE change_id=2"
        )
        for quick in (True, False):
            (finding,) = wrong(dm, quick)
            assert (finding.severity, finding.row) == ("error", 2)
            assert f"the requests of 'm' from {shown(first)} to {shown(last)}" in finding.text
        with pytest.raises(InvalidDataError):
            dm.usage("m")


def test_days_answer_days_and_no_hours(path: str) -> None:
    with filled(path) as dm:
        add_runs(dm, "idle", [(BEGIN + at, 5) for at in (100, 200, 300)])
        wanted = ask(dm, DAY)
        dm.prune(BEGIN + 4 * DAY, "day", tz="UTC")
        assert ask(dm, DAY) == wanted
        with pytest.raises(InvalidDataError, match="as one sum"):
            dm.usage("m", by="hour", tz="UTC")
        with pytest.raises(InvalidDataError, match="runs of 'idle' from"):
            dm.usage("idle", start=BEGIN + 150)
        assert dm.usage("idle", start=BEGIN + 205)[0].runtime_seconds == 5  # the newest is a row


def test_the_first_hour_of_a_day_that_is_pruned_later(dm: DataManager) -> None:
    """An hour and a day that begin at once are two: what could be asked for stays so."""
    dm.set_pricing("m", hourly_price=1.0)
    asked: Any = {"start": BEGIN, "end": BEGIN + HOUR, "tz": "UTC"}
    dm.add_model_requests("m", [[BEGIN + 60 * i, i, 1, 0, i] for i in range(90)])
    add_runs(dm, "m", [(BEGIN + 600 * i, 300) for i in range(12)])
    dm.prune(BEGIN + HOUR, tz="UTC")
    dm.add_model_request("m", [BEGIN + 3599, 5, 1, 0, 5])  # is late, and of that hour
    wanted = list(dm.usage(**asked)), list(dm.usage(by="day", tz="UTC"))
    dm.prune(BEGIN + DAY, "day", tz="UTC")
    assert len(dm.get_model_requests("m")) == 0
    assert (list(dm.usage(**asked)), list(dm.usage(by="day", tz="UTC"))) == wanted
    assert dm.check() == []


def test_days_of_a_zone(dm: DataManager) -> None:
    """A day of 25 hours, and hours that begin between those of UTC."""
    berlin = 1_761_429_600  # 2025-10-26T00:00 in Berlin
    rows = [[berlin + hour * HOUR + 1, 100, 10, 0, 100] for hour in range(-30, 60)]
    dm.add_model_requests("m", rows)
    by_day = dm.usage("m", by="day", tz="Europe/Berlin")
    dm.prune(berlin + 40 * HOUR, "day", tz="Europe/Berlin")
    assert dm.usage("m", by="day", tz="Europe/Berlin") == by_day
    assert 25 in list(by_day["requests"])
    by_hour = dm.usage("m", start=berlin + 47 * HOUR, by="hour", tz="Asia/Kolkata")
    dm.prune(berlin + 60 * HOUR, "hour", tz="Asia/Kolkata")
    assert dm.usage("m", start=berlin + 47 * HOUR, by="hour", tz="Asia/Kolkata") == by_hour


# ---- what goes ----


def test_dry_run(path: str) -> None:
    with filled(path) as dm:
        dm.add_program_runtime_start(BEGIN)
        dm.update_program_runtime_end(BEGIN + 5)
        dm.add_program_runtime_start(BEGIN + 10)
        requests, wanted = dm.get_model_requests("m"), ask(dm, HOUR)
        before = BEGIN + 2 * DAY
        found = dm.prune(before, dry_run=True)
        old = sum(request.timestamp < before for request in requests)
        runs = sum(run.end_time <= before for run in dm.get_model_runtime("m"))
        assert found[0] == Pruned("m", old, runs) and found[2] == Pruned(None, 0, 1)
        assert found.total == Pruned(None, old + found[1].requests, runs + found[1].runs + 1)
        assert dm.get_model_requests("m") == requests and ask(dm, HOUR) == wanted
        assert dm.prune(before) == found
        assert dm.prune(before).total == Pruned(None, 0, 0)
        left = dm.get_model_requests("m")
        assert left == [request for request in requests if request.timestamp >= before]
        assert len(dm.get_program_runtime()) == 1  # the newest stays, however old


def test_some_models(path: str) -> None:
    with filled(path) as dm:
        hourly = dm.get_model_requests("hourly")
        assert [row.model for row in dm.prune(BEGIN + DAY, models="m")] == ["m"]
        assert dm.get_model_requests("hourly") == hourly
        with pytest.raises(datamanager.ModelNotFoundError):
            dm.prune(BEGIN + 3 * DAY, models=["m", "unknown"])
        assert min(r.timestamp for r in dm.get_model_requests("m")) < BEGIN + 1.01 * DAY


@pytest.mark.parametrize(
    "before",
    [BEGIN + DAY, datetime.fromtimestamp(BEGIN + DAY, UTC), date(2026, 1, 31)],
    ids=["seconds", "datetime", "date"],
)
def test_before(dm: DataManager, before: Any) -> None:
    dm.add_model_requests("m", [[BEGIN + DAY - 1, 1, 1, 1, 1], [BEGIN + DAY, 1, 1, 1, 1]])
    assert dm.prune(before, tz="UTC").total == Pruned(None, 1, 0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"before": -1}, "before must be"),
        ({"before": "2026"}, "before must be"),
        ({"before": None}, "before must be"),
        ({"before": math.nan}, "before must be"),
        ({"before": 5, "keep": "week"}, "keep must be 'hour', 'day' or None, not 'week'"),
        ({"before": 5, "tz": "Nowhere"}, "tz must be"),
        ({"before": 5, "models": ["m", "m"]}, "twice"),
        ({"before": 5, "dry_run": "yes"}, "dry_run"),
    ],
)
def test_options_that_make_no_sense(dm: DataManager, options: Any, match: str) -> None:
    with pytest.raises(InvalidDataError, match=match):
        dm.prune(**options)


def test_no_part_of_a_batch(dm: DataManager) -> None:
    dm.add_model_requests("m", [[BEGIN + i, 1, 1, 0, 1] for i in range(5)])
    with dm.batch():
        assert dm.prune(BEGIN + DAY, None, dry_run=True).total.requests == 5
        with pytest.raises(InvalidDataError, match="prune cannot be a part of a batch"):
            dm.prune(BEGIN + DAY, None)
    assert len(dm.get_model_requests("m")) == 5
    assert dm.prune(BEGIN + DAY, None).total.requests == 5


def test_nothing_is_kept(path: str) -> None:
    with filled(path) as dm:
        dm.prune(BEGIN + 2 * DAY, tz="UTC")
        kept = dm.usage("m", start=BEGIN + DAY, strategy="volume")[0]
        found = dm.prune(BEGIN + DAY, None, dry_run=True)
        assert found[0].requests > 0 and found[1].runs > 0
        assert dm.prune(BEGIN + DAY, None) == found
        assert dm.usage("m", end=BEGIN + DAY, start=BEGIN)[0].requests == 0
        assert dm.usage("m", start=BEGIN + DAY, strategy="volume")[0] == kept
        total = dm.prune(time.time(), None).total
        assert total.requests > 1000 and dm.usage("m")[0].requests == 0
        assert dm.usage("m")[0].runtime_seconds > 0  # the newest run


@pytest.mark.parametrize("kept", ["hour", None])
def test_a_run_that_ended_just_then_goes_as_a_row_and_as_a_sum(dm: DataManager, kept: Any) -> None:
    at = BEGIN + DAY
    add_runs(dm, "m", [(at - 600, 600), (at - 10, 10.5), (at + HOUR, 1)])
    dm.add_model_requests("m", [[at + second, 1, 1, 0, 1] for second in (-1, 0)])
    if kept is not None:
        assert dm.prune(at + 60, kept, tz="UTC").total == Pruned(None, 2, 2)
    for dry_run in (True, False):
        assert dm.prune(at, None, dry_run=dry_run).total == Pruned(None, 1, 1)
    (left,) = dm.usage("m")
    assert (left.requests, left.runtime_seconds) == (1, 11.5)


def test_sums_go_in_no_more_steps_than_requests(path: str) -> None:
    """Each is found without a look at all the others."""
    with DataManager(path, durability="normal") as dm:
        count, steps = 10_000, [0, 0]
        dm.add_model_requests("m", [[BEGIN + i * HOUR, 10, 1, 0, 10] for i in range(count)])
        ways: Any = ("hour", None)
        for which, keep in enumerate(ways):

            def look(done: int, total: int, which: int = which) -> None:
                steps[which] += 1

            pruned = dm.prune(BEGIN + count * HOUR, keep, tz="UTC", progress=look)
            assert pruned.total == Pruned(None, count, 0)
        assert steps[1] <= steps[0]


def with_sums(path: str, count: int) -> DataManager:
    dm = DataManager(path, durability="normal")
    dm.add_model_requests("m", [[BEGIN + i * HOUR, 10, 1, 0, 10] for i in range(count)])
    dm.prune(BEGIN + count * HOUR, tz="UTC")
    return dm


def test_a_sum_that_goes_on_meanwhile_stays(path: str) -> None:
    end = BEGIN + 20_000 * HOUR
    with with_sums(path, 20_000) as dm:
        told: list[int] = []

        def add(done: int, total: int) -> None:
            if not told:
                told.append(done)
                dm.add_model_request("m", [end - 1, 10, 1, 0, 10])
                dm.prune(end, tz="UTC")

        assert dm.prune(end - 2, None, progress=add).total.requests == 19_999
        assert dm.usage("m")[0].requests == 2 and wrong(dm) == []


def test_sums_that_others_drop_meanwhile(path: str) -> None:
    with with_sums(path, 20_000) as dm:

        def drop(done: int, total: int) -> None:
            for table in ("usage", "uptime"):
                other_program(path, f"DROP TABLE IF EXISTS datamanager_{table}_sums")

        pruned = dm.prune(BEGIN + 20_000 * HOUR, None, progress=drop).total.requests
        assert 0 < pruned < 20_000 and dm.usage("m")[0].requests == 0 and wrong(dm) == []


@pytest.mark.parametrize("edges", [[0.0], [BEGIN, math.inf], None])
def test_before_and_buckets_that_are_infinite(path: str, edges: Any) -> None:
    """As a program in C may say it."""
    with DataManager(path, checksums=True) as dm:
        dm.add_model_requests("m", [[BEGIN + i, 1, 1, 0, 1] for i in range(9)])
        for before, count in [(-math.inf, 0), (math.inf, 9), (math.inf, 0)]:
            for dry_run in (True, False):
                pruned = dm._prune(None, before, edges, dry_run, None)
                assert [row.requests for row in pruned] == [count, 0]
        for before, count in [(-math.inf, 0), (math.inf, 0 if edges is None else 9)]:
            assert dm._prune(None, before, None, False, None)[0].requests == count
        with pytest.raises(InvalidDataError, match="first bucket must begin at a time"):
            dm._prune(None, math.inf, [-math.inf, 5.0], False, None)
        assert wrong(dm) == []


def test_read_only(path: str) -> None:
    filled(path).close()
    with DataManager(path, read_only=True) as dm:
        assert dm.prune(BEGIN + DAY, dry_run=True).total.requests > 0
        with pytest.raises(datamanager.ReadOnlyError):
            dm.prune(BEGIN + DAY)


def test_an_exception_in_progress_stops_and_loses_nothing(path: str) -> None:
    with filled(path, 30_000) as dm:
        wanted = ask(dm, HOUR)
        with pytest.raises(ZeroDivisionError):
            dm.prune(BEGIN + 4 * DAY, tz="UTC", progress=lambda done, total: 1 // 0)
        assert 0 < dm.prune(BEGIN + 4 * DAY, tz="UTC", dry_run=True)[0].requests < 30_000
        assert ask(dm, HOUR) == wanted and wrong(dm) == []


# ---- beside everything else ----


def test_status_counts_runs_that_were_pruned(path: str) -> None:
    window: Any = {"start": BEGIN, "end": BEGIN + 3 * DAY}
    with filled(path) as dm:
        before = dm.get_status(**window)
        dm.prune(BEGIN + 3 * DAY, tz="UTC")
        after = dm.get_status(**window)
        for one, other in zip(before.models, after.models, strict=True):
            assert (one.runs, one.last_request) == (other.runs, other.last_request)
            assert one.requests <= other.requests  # the newest run began within an hour of sums
            assert one.total_uptime_seconds == pytest.approx(other.total_uptime_seconds)
        assert before.models[1].availability == pytest.approx(after.models[1].availability)


def test_a_status_is_told_by_the_sums_alone(path: str) -> None:
    with filled(path, 500) as dm:
        dm.rename_model("m", "priced")
        dm.add_model_requests("m", some_rows(300, 3))  # never ran: all of its requests count
        dm.prune(BEGIN + 3 * DAY, tz="UTC")
        used, status = dm.usage("m").total, dm.get_model_status("m")
        for name in ("requests", "input_tokens", "output_tokens", "last_request"):
            assert getattr(status, name) == getattr(used, name)
        sums = "datamanager_usage_sums WHERE safe_name=(SELECT safe_name FROM model_name_mapping"
        sums += " WHERE original_name='m')"
        for change in ("packed=x'ff'", "cache_n=-1"):
            other_program(path, f"UPDATE {sums.replace(' WHERE', f' SET {change} WHERE', 1)}")
            if change[0] == "p":
                assert dm.get_model_status("m") == status
                continue
            with pytest.raises(datamanager.CorruptDataError, match="packed is not what the sums"):
                dm.get_model_status("m")


def test_performance_leaves_out_what_was_pruned(dm: DataManager) -> None:
    for at in (BEGIN, BEGIN + DAY):
        dm.add_model_request("m", [at, 10, 10, 0, 10], duration=at - BEGIN + 1.0)
    dm.prune(BEGIN + HOUR, tz="UTC")
    (row,) = dm.performance("m")
    assert (row.requests, row.duration_max) == (1, DAY + 1.0)
    assert wrong(dm) == []  # its timing has gone with it


def test_rename_and_merge(path: str) -> None:
    with filled(path) as dm:
        dm.set_pricing("other", tiers=TIERS)
        dm.add_model_requests("other", some_rows(500, 3))
        dm.prune(BEGIN + 3 * DAY, tz="UTC")
        before = dm.usage("m", by="hour", tz="UTC", start=BEGIN, end=BEGIN + DAYS * DAY)
        other = dm.usage("other")[0].requests
        dm.rename_model("m", "renamed")
        after = dm.usage("renamed", by="hour", tz="UTC", start=BEGIN, end=BEGIN + DAYS * DAY)
        assert after["cost_exact"] == before["cost_exact"]
        dm.rename_model("other", "renamed")
        assert dm.usage("renamed")[0].requests == 5000 + other and wrong(dm) == []
        dm.delete_model_tables("renamed")
        dm.add_model_request("renamed", [BEGIN, 1, 1, 1, 1])
        assert dm.usage("renamed")[0].requests == 1 and wrong(dm) == []


@pytest.mark.parametrize("keep", ["hour", None])
def test_checksums_go_with_their_requests(path: str, keep: Any) -> None:
    with filled(path, checksums=True) as dm:
        gone = dm.prune(BEGIN + 3 * DAY, keep, tz="UTC").total.requests
        left = sum(len(dm.get_model_requests(name)) for name in ("m", "hourly"))
        assert (gone > 0, left > 0, wrong(dm)) == (True, True, [])


@pytest.mark.parametrize("strategy", ["graduated", "cumulative"])
def test_what_is_not_what_was_stored_stays(path: str, strategy: str) -> None:
    """In a sum nobody would find it again; when it is mended it goes as all others do."""
    with DataManager(path, checksums=True) as dm:
        dm.set_pricing("m", tiers=TIERS, strategy=strategy)
        rows = [[BEGIN + i * 60, 300, 70, i % 3 * 100, 300 - i % 3 * 100] for i in range(200)]
        dm.add_model_requests("m", rows)
        table = dm.get_safe_model_name("m") + "_requests"
        right = dm.usage("m", by=HOUR, tz="UTC")["cost_exact"]
        other_program(path, f"UPDATE {table} SET output_tokens=71 WHERE id IN (4, 60, 70)")
        before = dm.usage("m", by=HOUR, tz="UTC")["cost_exact"]
        for end, gone in ((HOUR, 58), (2 * HOUR, 59), (2 * HOUR, 0)):
            for dry_run in (True, False):
                pruned = dm.prune(BEGIN + end, tz="UTC", dry_run=dry_run).total.requests
                assert pruned == gone
            assert dm.usage("m", by=HOUR, tz="UTC")["cost_exact"] == before
        assert [row.id for row in dm.get_model_requests("m")][-3:] == [70, 60, 4]
        assert [found.row for found in wrong(dm)] == [4, 60, 70]
        other_program(path, f"UPDATE {table} SET output_tokens=70 WHERE id IN (4, 60)")
        assert dm.prune(BEGIN + HOUR, tz="UTC").total.requests == 2
        other_program(path, f"UPDATE {table} SET output_tokens=70")
        assert dm.usage("m", by=HOUR, tz="UTC")["cost_exact"] == right and wrong(dm) == []


@pytest.mark.parametrize("column", ["input_tokens", "timestamp"])
def test_what_is_impossible_stays(path: str, column: str) -> None:
    with DataManager(path, checksums=True) as dm:
        dm.set_pricing("a", tiers=TIERS, strategy="cumulative")
        for name in ("a", "b"):
            dm.add_model_requests(name, [[BEGIN + i * 60, 300, 7, 0, 300] for i in range(9)])
        right = dm.usage("a")["cost_exact"]
        table = dm.get_safe_model_name("a") + "_requests"
        kept = f"(SELECT {column} FROM {dm.get_safe_model_name('b')}_requests WHERE id=4)"
        other_program(path, f"CREATE TABLE kept AS SELECT {kept} AS value")
        other_program(path, f"UPDATE {table} SET {column}=-5 WHERE id=4")
        for gone in (17, 0):
            for dry_run in (True, False):
                pruned = dm.prune(BEGIN + DAY, tz="UTC", dry_run=dry_run)
                assert pruned.total.requests == gone
        assert {found.row for found in wrong(dm) if found.table == table} == {4}
        other_program(path, f"UPDATE {table} SET {column}=(SELECT value FROM kept)")
        assert dm.prune(BEGIN + DAY, tz="UTC").total.requests == 1
        assert dm.usage("a")["cost_exact"] == right


@pytest.mark.parametrize("fault", ["row", "sum"])
def test_one_models_damage_keeps_no_other(path: str, fault: str) -> None:
    """It is told at the end."""
    with DataManager(path) as dm:
        rows = [[BEGIN + i, 5, 5, 0, 5] for i in range(9)]
        dm.add_model_requests("a", rows)
        if fault == "sum":
            dm.prune(BEGIN + 5, tz="UTC")
            other_program(path, "UPDATE datamanager_usage_sums SET input_tokens=-1")
        else:
            table = dm.get_safe_model_name("a") + "_requests"
            other_program(path, f"UPDATE {table} SET input_tokens=-5 WHERE id=4")
        dm.add_model_requests("b", rows)
        dm.add_program_runtime_start(BEGIN)
        dm.update_program_runtime_end(BEGIN + 1)
        dm.add_program_runtime_start(BEGIN + 2 * DAY)
        for _ in range(2):
            with pytest.raises(datamanager.CorruptDataError, match=r"row [14]: "):
                dm.prune(BEGIN + DAY, tz="UTC")
            assert dm.get_model_requests("b") == [] and len(dm.get_program_runtime()) == 1
        with pytest.raises(datamanager.CorruptDataError, match=r"row [14]: "):
            dm.prune(BEGIN + DAY, tz="UTC", models="a")


def test_where_nothing_is_kept_all_goes(path: str) -> None:
    with DataManager(path, checksums=True) as dm:
        dm.add_model_requests("m", [[BEGIN + i, 1, 1, 0, 1] for i in range(9)])
        other_program(path, f"UPDATE {dm.get_safe_model_name('m')}_requests SET cache_n=1")
        assert dm.prune(BEGIN + DAY, None, dry_run=True).total.requests == 9
        assert dm.prune(BEGIN + DAY, None).total.requests == 9 and wrong(dm) == []


def test_backup_and_restore(path: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy.db")
    with filled(path) as dm:
        wanted = ask(dm, HOUR)
        dm.prune(BEGIN + 3 * DAY, tz="UTC")
        dm.backup(copy)
        dm.prune(BEGIN + 4 * DAY, None)
        datamanager.restore(copy, path)
        assert ask(dm, HOUR) == wanted


def test_ids_are_remembered(dm: DataManager, tmp_path: Path) -> None:
    """What was pruned does not come back: not by a repeated call, not by an import."""
    file = tmp_path / "all.csv"
    row = dm.add_model_request("m", [BEGIN, 1, 2, 3, 4], request_id="once")
    dm.add_model_request("m", [BEGIN + 1, 1, 2, 3, 4])
    dm.add_model_request("m", [BEGIN + DAY, 1, 2, 3, 4])
    dm.export(file)
    dm.prune(BEGIN + HOUR)
    assert dm.add_model_request("m", [BEGIN, 1, 2, 3, 4], request_id="once") == row
    dm.import_requests(file)
    assert dm.usage("m")[0].requests == 3 and len(dm.get_model_requests("m")) == 1


def sum_of_two(path: str) -> tuple[float, float]:
    """The times of a sum of m's of more than one request."""
    with closing(sqlite3.connect(path)) as file:
        query = "SELECT first_request, last_request FROM datamanager_usage_sums WHERE requests>1"
        first, last = file.execute(query).fetchone()
    return float(first), float(last)


def other_program(path: str, text: str) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(text)
        other.commit()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("UPDATE datamanager_usage_sums SET input_tokens=input_tokens+1 WHERE id=2", "packed"),
        ("UPDATE datamanager_usage_sums SET packed=x'ff' WHERE id=2", "packed"),
        ("UPDATE datamanager_usage_sums SET packed='' WHERE id=2", "packed"),
        ("UPDATE datamanager_usage_sums SET requests=1000000 WHERE id=2", "packed"),
        ("UPDATE datamanager_usage_sums SET first_request='x' WHERE id=2", "first_request"),
        ("UPDATE datamanager_usage_sums SET last_request=1 WHERE id=2", "packed"),
        ("UPDATE datamanager_uptime_sums SET runs=0 WHERE id=2", "no runs"),
        ("UPDATE datamanager_uptime_sums SET end_time=0 WHERE id=2", "no runs"),
        ("UPDATE datamanager_uptime_sums SET seconds=-1 WHERE id=2", "seconds"),
    ],
)
def test_what_breaks_the_rules_is_named(path: str, text: str, found: str) -> None:
    with filled(path, 500) as dm:
        dm.prune(BEGIN + 3 * DAY, tz="UTC")
        other_program(path, text)
        (finding,) = wrong(dm)
        assert (finding.severity, finding.row) == ("error", 2) and found in finding.text
        assert str(finding.table) in text
        with pytest.raises(datamanager.CorruptDataError, match=found):
            dm.usage()
        assert wrong(dm, quick=True) == []


@pytest.mark.parametrize(
    "text", ["input_tokens=-9223372036854775807-1", "packed=substr(packed,2)", "prompt_n='x'"]
)
def test_a_sum_that_breaks_the_rules_takes_no_more(path: str, text: str) -> None:
    with DataManager(path) as dm:
        dm.add_model_requests("m", [[BEGIN + i, 5, 5, 0, 5] for i in range(9)])
        dm.prune(BEGIN + DAY, tz="UTC")
        other_program(path, f"UPDATE datamanager_usage_sums SET {text}")
        dm.add_model_request("m", [BEGIN + 10, 5, 5, 0, 5])
        with pytest.raises(datamanager.CorruptDataError, match="datamanager_usage_sums row 1"):
            dm.prune(BEGIN + DAY, tz="UTC")
        assert len(dm.get_model_requests("m")) == 1


def test_sums_of_nobody_are_named(path: str) -> None:
    with filled(path, 500) as dm:
        dm.prune(BEGIN + 3 * DAY, tz="UTC")
        other_program(path, "UPDATE datamanager_uptime_sums SET safe_name='gone' WHERE id=1")
        assert [finding.severity for finding in wrong(dm, quick=True)] == ["warning"]
        for table in ("usage", "uptime"):
            other_program(path, f"DROP TABLE datamanager_{table}_sums")
        assert dm.usage("m")[0].requests < 500
        dm.prune(BEGIN + 4 * DAY, tz="UTC")
        assert wrong(dm, quick=True) == []


def test_space_comes_back(path: str) -> None:
    with filled(path, 50_000) as dm:
        wanted = ask(dm, HOUR)
        before = dm.get_storage_stats()["file_bytes"]
        dm.prune(BEGIN + DAYS * DAY, tz="UTC")
        assert dm.get_storage_stats()["free_bytes"] > before / 2
        assert dm.vacuum()[1] < before / 2
        assert ask(dm, HOUR) == wanted


# ---- with others ----

OTHER_PROCESS = """
import select, sys
from datamanager import DataManager
path, begin, day = sys.argv[1], float(sys.argv[2]), 86400
with DataManager(path) as dm:
    edges = [0.0, begin + day, begin + 3 * day, begin + 5 * day]
    wanted = dm._usage(["m"], edges, [], "cumulative", False)
    print("ready", flush=True)
    rounds = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        assert dm._usage(["m"], edges, [], "cumulative", False) == wanted
        dm.add_model_request("new", [begin + 9 * day, 1, 1, 0, 1])
        rounds += 1
        if rounds == 1:
            print("round", flush=True)
print(rounds, flush=True)
"""


def test_readers_and_writers_beside_it(path: str) -> None:
    """Threads and another process ask and write all the while; no answer ever changes."""
    with filled(path, 40_000) as dm:
        edges = [0.0, BEGIN + DAY, BEGIN + 3 * DAY, BEGIN + 5 * DAY]
        wanted = dm._usage(["m"], edges, [], "cumulative", False)
        over, counts, wrong = threading.Event(), [0, 0, 0], []

        def reader(number: int) -> None:
            while not over.is_set():
                if dm._usage(["m"], edges, [], "cumulative", False) != wanted:
                    wrong.append(number)
                counts[number] += 1

        def writer() -> None:
            while not over.is_set():
                dm.add_model_request("mine", [BEGIN + 9 * DAY, 1, 1, 0, 1])
                counts[2] += 1

        command = [sys.executable, "-c", OTHER_PROCESS, path, str(BEGIN)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n" and other.stdout.readline() == "round\n"
            threads = [threading.Thread(target=reader, args=(n,)) for n in range(2)]
            threads.append(threading.Thread(target=writer))
            for thread in threads:
                thread.start()
            pruned = dm.prune(BEGIN + 4 * DAY, tz="UTC")[0].requests
            over.set()
            for thread in threads:
                thread.join()
            rest, _ = other.communicate("stop\n", timeout=60)
            assert other.returncode == 0
        assert pruned > 20_000 and not wrong and min(counts) > 0
        assert dm.usage("mine")[0].requests == counts[2]
        assert dm.usage("new")[0].requests == int(rest)


@pytest.mark.parametrize("days", [-200, 40], ids=["before", "after"])
def test_what_comes_meanwhile_before_or_after_all_buckets(path: str, days: int) -> None:
    """No bucket is of their time, so they stay, and the next time there are some."""
    end = time.time() + 100 * DAY
    begin = BEGIN if days < 0 else time.time()
    late = [begin + (days + i) * DAY for i in (0, 2, 5)]
    with filled(path, 30_000) as dm:
        dm.add_model_requests("next", some_rows(100))  # is looked at when "m" is done
        add_runs(dm, "next", [(BEGIN + DAY, 60), (BEGIN + 2 * DAY, 60)])
        found = dm.prune(end, tz="UTC", dry_run=True)
        wanted: list[Any] = []

        def add(done: int, total: int) -> None:
            if not wanted:
                for name in ("m", "next"):
                    dm.add_model_requests(name, [[at, 5, 1, 0, 5] for at in late])
                    add_runs(dm, name, [(at, 60) for at in late])
                wanted.append(dm.usage(by="day", tz="UTC"))

        pruned = dm.prune(end, tz="UTC", progress=add)
        assert [row.requests for row in pruned] == [row.requests for row in found]
        assert dm.usage(by="day", tz="UTC") == wanted[0]
        assert [r.timestamp for r in dm.get_model_requests("next")] == late[::-1]
        found = dm.prune(end, tz="UTC", dry_run=True)
        assert found.total.requests == 6 and dm.prune(end, tz="UTC") == found
        assert dm.usage(by="day", tz="UTC") == wanted[0] and wrong(dm) == []


def test_beside_those_who_add_many_without_a_pause(path: str) -> None:
    """Between any two looks more come than a step looks at in the beginning."""
    with DataManager(path, durability="normal") as dm:
        dm.add_model_requests("m", [[BEGIN + i, 1, 1, 0, 1] for i in range(100)])
        ones = array("q", [1] * 10_000)
        many: Any = dict.fromkeys(("input_tokens", "output_tokens", "cache_n", "prompt_n"), ones)
        many["timestamp"] = array("d", [BEGIN + 9 * DAY] * 10_000)
        over, gave_up = threading.Event(), []

        def add() -> None:
            for _ in range(200):
                if over.is_set():
                    return
                dm.add_model_requests("m", many)
            gave_up.append(True)

        threads = [threading.Thread(target=add) for _ in range(2)]
        for thread in threads:
            thread.start()
        pruned = dm.prune(BEGIN + DAY, tz="UTC").total.requests
        over.set()
        for thread in threads:
            thread.join()
        assert pruned == 100 and gave_up == []


def test_two_prune_at_once(path: str) -> None:
    with filled(path, 20_000) as dm, DataManager(path) as other:
        wanted = ask(dm, HOUR)
        found: list[int] = []

        def one(handle: DataManager) -> None:
            found.append(handle.prune(BEGIN + 4 * DAY, tz="UTC")[0].requests)

        threads = [threading.Thread(target=one, args=(handle,)) for handle in (dm, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = len(dm.get_model_requests("m"))
        assert sum(found) + left == 20_000
        assert ask(dm, DAY, ("graduated", "volume")) == ask(other, DAY, ("graduated", "volume"))
        assert ask(dm, HOUR) == wanted and wrong(dm) == []


def test_a_model_that_goes_meanwhile(path: str) -> None:
    with filled(path, 30_000) as dm:

        def delete(done: int, total: int) -> None:
            if "m" in dm.get_models():
                dm.delete_model_tables("m")

        pruned = dm.prune(BEGIN + 4 * DAY, tz="UTC", progress=delete)
        assert 0 < pruned[0].requests < 30_000 and dm.get_models() == ["hourly"]
        assert wrong(dm) == []


PRUNING = """
import sys
from datamanager import DataManager
with DataManager(sys.argv[1]) as dm:
    dm.prune(float(sys.argv[2]), sys.argv[3], tz="UTC",
             progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.parametrize("keep", ["hour", "day"])
def test_kill(path: str, keep: Any) -> None:
    """Wherever it is killed, a request is a row or in a sum: never both, never neither."""
    edges = [0.0, *range(BEGIN + DAY, BEGIN + 6 * DAY, DAY)]
    with filled(path, 40_000) as dm:
        wanted = dm._usage(None, edges, edges[1:3], "cumulative", False)
    rnd, killed = random.Random(keep), 0
    for _ in range(60):
        command = [sys.executable, "-c", PRUNING, path, str(BEGIN + 4.5 * DAY), keep]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
            assert child.stdout is not None
            told = [child.stdout.readline() for _ in range(rnd.randrange(1, 5))]
            if told[-1]:
                time.sleep(rnd.random() * 0.01)  # somewhere in the next step
                os.kill(child.pid, signal.SIGKILL)
            child.wait(60)
        with DataManager(path) as dm:
            assert dm._usage(None, edges, edges[1:3], "cumulative", False) == wanted
            assert wrong(dm) == []
        killed += child.returncode == -signal.SIGKILL
        if not told[-1]:
            break
    assert killed >= 1


def test_ctrl_c(path: str) -> None:
    with filled(path, 60_000) as dm:
        wanted = ask(dm, HOUR)
    command = [sys.executable, "-c", PRUNING, path, str(BEGIN + 4.5 * DAY), "hour"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    with DataManager(path) as dm:
        assert 0 < len(dm.get_model_requests("m")) < 60_000
        assert ask(dm, HOUR) == wanted and wrong(dm) == []


# ---- the command ----


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    fill(tmp_path / "usage.db", ["m", "n"])
    return tmp_path / "usage.db"


WORDS = ["prune", "--before", "2025-10-10", "--tz", "UTC"]


def test_command(shop: Path) -> None:
    with DataManager(shop) as dm:
        wanted = dm.usage(by="day", tz="UTC")
    dry = json_of(shop, *WORDS, "--dry-run")
    assert dry["dry_run"] and dry["total"] == {"model": None, "requests": 126, "runs": 0}
    assert json_of(shop, *WORDS, "--dry-run") == dry
    done = json_of(shop, *WORDS, "--yes", "--keep", "day", "m")
    assert [row["requests"] for row in done["rows"]] == [63] and done["keep"] == "day"
    with DataManager(shop) as dm:
        assert dm.usage(by="day", tz="UTC") == wanted and len(dm.get_model_requests("m")) == 137
    assert json_of(shop, *WORDS, "--yes", "--keep", "none")["total"]["requests"] == 126
    with DataManager(shop) as dm:
        assert dm.usage("m")[0].requests == 137
    ago = run("prune", "--before", "90d", "--dry-run", "--db", str(shop))
    assert ago.returncode == 0 and "(the program)" in ago.stdout


def test_command_asks(shop: Path) -> None:
    words = [*WORDS, "--db", str(shop)]
    silent = run(*words)
    assert (silent.returncode, silent.stdout) == (2, "") and "--yes is needed" in silent.stderr
    for answer, code, left in ((b"n\n", 2, 200), (b"y\n", 0, 137)):
        with Terminal([*COMMAND, *words], environment()) as terminal:
            terminal.wait_for(b"[y/N]")
            terminal.press(answer)
            assert terminal.finish() == code
        with DataManager(shop) as dm:
            assert len(dm.get_model_requests("m")) == left


@pytest.mark.parametrize(
    ("keep", "asked"),
    [
        ("hour", "and keep their sums by hour? [y/N]"),
        ("day", "and keep their sums by day? [y/N]"),
        ("none", "and all usage and costs of that time with them? [y/N]"),
    ],
)
def test_command_says_what_stays(shop: Path, keep: str, asked: str) -> None:
    words = [*COMMAND, *WORDS, "--keep", keep, "--db", str(shop)]
    with Terminal(words, environment(), 200) as terminal:
        terminal.wait_for(b"[y/N]")
        terminal.press(b"n\n")
        assert terminal.finish() == 2 and asked in terminal.shown.decode()


# ---- runs that end before they start: of a clock that was set back, or of another program ----


@pytest.mark.parametrize("end", [BEGIN + HOUR, 0])  # 0: before the first bucket
@pytest.mark.parametrize("keep", ["hour", None])
def test_a_run_that_ends_before_it_starts_stays(path: str, end: float, keep: Any) -> None:
    with DataManager(path) as dm:
        dm.set_pricing("m", hourly_price=1.0, use_tier_pricing=False)
        add_runs(dm, "m", [(BEGIN, 600), (BEGIN + 2 * HOUR, 600), (BEGIN + 4 * HOUR, 600)])
        for hour in (0, 2, 4):
            dm.add_program_runtime_start(BEGIN + hour * HOUR)
        table = f"{dm.get_safe_model_name('m')}_runtime"
    with closing(sqlite3.connect(path)) as file, file:
        for name in (table, "program_runtime"):
            file.execute(f"UPDATE {name} SET end_time=? WHERE id=2", (end,))
    with DataManager(path) as dm:
        asked = ask(dm, "hour"), [row.total_uptime_seconds for row in dm.get_status()]
        found = dm.check()
        assert [p.runs for p in dm.prune(BEGIN + DAY, keep, tz="UTC", dry_run=True)] == [1, 1]
        assert [p.runs for p in dm.prune(BEGIN + DAY, keep, tz="UTC")] == [1, 1]
        if keep is not None:
            assert (ask(dm, "hour"), [row.total_uptime_seconds for row in dm.get_status()]) == asked
        assert [run.id for run in dm.get_model_runtime("m")] == [3, 2]
        assert [run.id for run in dm.get_program_runtime()] == [3, 2]
        assert [(f.table, f.row) for f in dm.check()] == [(f.table, f.row) for f in found]
        assert {(f.table, f.row) for f in found} == {(table, 2), ("program_runtime", 2)}


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("3m", "--before '3m' may be minutes or months: write 3min or 3mo"),
        ("3 M ago", "write 3min or 3mo"),
        ("3000", "is yet to come .*: write 3000d .* or 'now'"),
        ("@1e18", r"is yet to come \(1e\+18\): write 'now'"),
        ("2999-01-01", "is yet to come"),
    ],
)
def test_command_refuses_what_may_mean_something_else(shop: Path, before: str, said: str) -> None:
    for how in ("--yes", "--dry-run"):
        done = run("prune", "--before", before, "--keep", "none", how, "--db", str(shop))
        assert (done.returncode, done.stdout) == (2, "") and re.search(said, done.stderr)
    for words in ("3min", "3mo", "now", "today", "2025"):
        assert run("prune", "--before", words, "--dry-run", "--db", str(shop)).returncode == 0
