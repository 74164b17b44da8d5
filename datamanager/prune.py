"""Removing old requests and runs: which hours or days the sums are of."""

from __future__ import annotations

import contextlib
import time
from datetime import date, datetime
from typing import TYPE_CHECKING, ClassVar, Literal

from datamanager import windows
from datamanager._core import CorruptDataError, InvalidDataError, Pruned
from datamanager.tables import Table
from datamanager.usage import names_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import tzinfo

    from datamanager.manager import DataManager
    from datamanager.usage import Moment

Keep = Literal["hour", "day"]


class PrunedTable(Table[Pruned]):
    """What went, or would go: a row for each model, and one of the program, whose model is None."""

    _columns: ClassVar = (("model", "u"), ("requests", "l"), ("runs", "l"))
    _shown: ClassVar = ("model", "requests", "runs")

    @property
    def total(self) -> Pruned:
        """Everything in one row; its ``model`` is None."""
        requests, runs = (sum(self._values(name)) for name in ("requests", "runs"))
        return Pruned(None, requests, runs)


def _first_and_last(dm: DataManager, names: Sequence[str] | None) -> tuple[float, float] | None:
    moments = [moment for moment in dm._time_span(names) if moment is not None]
    if names is None:
        with contextlib.suppress(CorruptDataError):  # told once the models are pruned
            runs = dm.get_program_runtime()
            moments += [time for run in runs for time in (run.start_time, run.end_time)]
    return (min(moments), max(moments)) if moments else None


def _buckets(
    dm: DataManager, names: Sequence[str] | None, before: float, keep: Keep, zone: windows.Zone
) -> list[float]:
    """Where the hours or days begin that lie before ``before`` and in which there is something,
    and where the last ends: what comes meanwhile and lies in none of them stays."""
    span = _first_and_last(dm, names)
    if span is None or span[0] >= before:
        return [before, before]
    end = min(before, max(span[1], time.time()) + 86400)
    return windows.edges(keep, None, zone.tz, None, end, lambda: span)


def prune(
    dm: DataManager,
    before: Moment | date,
    keep: Keep | None,
    dry_run: bool,
    models: str | Iterable[str] | None,
    tz: str | tzinfo | None,
    progress: Callable[[int, int], object] | None,
) -> PrunedTable:
    zone = windows.Zone(tz)
    if keep not in ("hour", "day", None):
        raise InvalidDataError(f"keep must be 'hour', 'day' or None, not {keep!r}")
    if isinstance(before, date) and not isinstance(before, datetime):
        before = datetime(before.year, before.month, before.day, tzinfo=zone.tz)
    moment = windows.to_moment(before, "before")
    if moment is None:
        raise InvalidDataError("before must be seconds since 1970, a datetime or a date, not None")
    names = names_of(models)
    edges = None
    if keep is not None:
        *edges, moment = _buckets(dm, names, moment, keep, zone)
    return PrunedTable(dm._prune(names, moment, edges, dry_run, progress), zone.tz)
