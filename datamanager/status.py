"""What runs, since when, and what it did since then."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from datamanager import windows
from datamanager._core import (
    InvalidDataError,
    ModelNotFoundError,
    ModelRunTime,
    ModelStatus,
    UsageRow,
)
from datamanager.tables import Table
from datamanager.usage import add_up, sum_seconds

if TYPE_CHECKING:
    from datamanager.manager import DataManager
    from datamanager.usage import Moment

Window = tuple[float, float]
KeptRuns = tuple[float, float, int, float]  # from when to when, how many, their seconds


class StatusTable(Table[ModelStatus]):
    """The status of the program, whose ``model`` is None, and of each model."""

    _columns: ClassVar = (
        ("model", "u"),
        ("running", "l"),
        ("since", "g"),
        ("started", "g"),
        ("last_heartbeat", "g"),
        ("uptime_seconds", "g"),
        ("total_uptime_seconds", "g"),
        ("runs", "l"),
        ("availability", "g"),
        ("last_request", "g"),
        ("requests", "l"),
        ("input_tokens", "l"),
        ("output_tokens", "l"),
    )
    _shown: ClassVar = (
        "model",
        "running",
        "since",
        "runs",
        "availability",
        "last_request",
        "requests",
        "input_tokens",
        "output_tokens",
    )

    @property
    def program(self) -> ModelStatus:
        """The row of the program."""
        return next(row for row in self if row.model is None)

    @property
    def models(self) -> StatusTable:
        """The rows of the models."""
        return StatusTable([row for row in self if row.model is not None])


def _covered(spans: Iterable[Window], window: Window) -> float:
    """Seconds of the window in which at least one run was going on."""
    seconds, reached = 0.0, window[0]
    for start, end in sorted(spans):
        begin, end = max(start, reached), min(end, window[1])
        seconds += max(end - begin, 0.0)
        reached = max(reached, end)
    return seconds


def _seconds(run: ModelRunTime) -> float:
    """0 where it ends before it starts, as in ``usage``: a clock was set back."""
    return max(run.end_time - run.start_time, 0.0)


class _Uptime:
    """Of all runs, with those that were pruned and of which sums are left."""

    def __init__(self, runs: Sequence[ModelRunTime], kept: Sequence[KeptRuns]) -> None:
        self.runs = len(runs) + sum(count for _, _, count, _ in kept)
        seconds = [_seconds(run) for run in runs]
        self.seconds = sum_seconds([*seconds, *(seconds for *_, seconds in kept)])
        self.spans = [(run.start_time, run.end_time) for run in runs]
        # The runs of a sum are within a bucket; where in it each was is not known any more.
        self.spans += [(start, min(end, start + seconds)) for start, end, _, seconds in kept]


def _used(
    dm: DataManager, names: Sequence[str] | None, begin: float | None
) -> tuple[float | None, UsageRow]:
    """When the models (None: all) were last asked, and what they used from ``begin`` on."""
    edges = [-math.inf, *([] if begin is None else [begin]), math.inf]
    found = dm._usage(names, edges, None, None, False, counts_only=True)
    assert found is not None
    rows, _ = found
    parts = len(edges) - 1
    return add_up(rows, None).last_request, add_up(rows[parts - 1 :: parts], None)


class _Asked:
    """The options of a question, checked, and the moment at which it is asked."""

    def __init__(
        self, stale_after: float, start: Moment | None, end: Moment | None, minutes: float | None
    ) -> None:
        self.stale_after = windows.real(stale_after)
        if not 0 < self.stale_after < math.inf:
            raise InvalidDataError(f"stale_after must be seconds above 0, not {stale_after!r}")
        self.now = time.time()
        first, last = windows.window(minutes, start, end, until_now=True)
        last = self.now if last is None else last
        first = last - 86400 if first is None else first
        if not first < last:
            raise InvalidDataError(f"end {last!r} must be after start {first!r}")
        self.window = (first, last)

    def status(
        self,
        dm: DataManager,
        model: str | None,
        runs: Sequence[ModelRunTime],
        names: Sequence[str] | None,
    ) -> ModelStatus:
        newest = runs[0] if runs else None
        uptime = _Uptime(runs, dm._kept_runs(model))
        last_request, used = _used(dm, names, newest and newest.start_time)
        running = newest is not None and self.now - newest.end_time < self.stale_after
        return ModelStatus(
            model=model,
            running=running,
            since=newest and (newest.start_time if running else newest.end_time),
            started=newest and newest.start_time,
            last_heartbeat=newest and newest.end_time,
            uptime_seconds=_seconds(newest) if newest else 0.0,
            total_uptime_seconds=uptime.seconds,
            runs=uptime.runs,
            availability=_covered(uptime.spans, self.window) / (self.window[1] - self.window[0]),
            last_request=last_request,
            requests=used.requests,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
        )

    def model(self, dm: DataManager, name: str) -> ModelStatus:
        return self.status(dm, name, dm.get_model_runtime(name), [name])

    def program(self, dm: DataManager) -> ModelStatus:
        return self.status(dm, None, dm.get_program_runtime(), None)


def model_status(
    dm: DataManager,
    model_name: str,
    stale_after: float,
    start: Moment | None,
    end: Moment | None,
    minutes: float | None,
) -> ModelStatus:
    return _Asked(stale_after, start, end, minutes).model(dm, model_name)


def status(
    dm: DataManager,
    stale_after: float,
    start: Moment | None,
    end: Moment | None,
    minutes: float | None,
) -> StatusTable:
    asked = _Asked(stale_after, start, end, minutes)
    found = [asked.program(dm)]
    for name in dm.get_models():
        with contextlib.suppress(ModelNotFoundError):  # deleted since
            found.append(asked.model(dm, name))
    return StatusTable(found)
