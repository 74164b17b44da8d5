"""What the C type leaves to Python: exit, and the check for a second copy of SQLite."""

from __future__ import annotations

import atexit
import contextlib
import sys
import weakref

from datamanager import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from datetime import date, tzinfo
    from typing import Any, Literal

    from datamanager._core import Cost, ModelStatus
    from datamanager.exchange.importing import ImportResult
    from datamanager.invoice import Invoice
    from datamanager.performance import PerformanceTable
    from datamanager.prune import PrunedTable
    from datamanager.status import StatusTable
    from datamanager.usage import Moment, Prices, Strategy, UsageTable

_open: weakref.WeakSet[DataManager] = weakref.WeakSet()
_checked_for_two_copies = False


@atexit.register
def _close_all() -> None:
    for manager in list(_open):
        manager.close()


def _shared_with_stdlib() -> bool | None:
    """Whether the stdlib's sqlite3 runs on our copy: does ours see the memory that it takes?"""
    try:
        import sqlite3
    except ImportError:
        return None
    before = _core.sqlite_info()["memory_used"]
    with contextlib.ExitStack() as stack:  # each connection takes more than ten kilobytes
        for _ in range(16):
            stack.enter_context(contextlib.closing(sqlite3.connect(":memory:")))
        return bool(_core.sqlite_info()["memory_used"] - before > 100_000)


def sqlite_info() -> dict[str, Any]:
    """Which SQLite is in use.

    ``version`` and ``source_id`` are SQLite's own; ``wal_reset_race`` is true where this version
    can lose commits when a foreign program checkpoints; ``shared_with_stdlib`` is false where
    Python's ``sqlite3`` carries a copy of its own, which drops our locks when it closes the same
    file (None where Python has no ``sqlite3``).
    """
    info = _core.sqlite_info()
    del info["memory_used"]
    info["shared_with_stdlib"] = _shared_with_stdlib()
    return info


def _warn_of_two_copies() -> None:
    global _checked_for_two_copies
    if _checked_for_two_copies or "_sqlite3" not in sys.modules:
        return
    _checked_for_two_copies = True
    if _shared_with_stdlib() is False:
        import warnings

        warnings.warn(
            "Python's sqlite3 carries its own copy of SQLite: do not open the same file with both,"
            " or locks are lost and with them data",
            RuntimeWarning,
            stacklevel=3,
        )


class DataManager(_core.Manager):
    """A handle on the usage and billing store in one SQLite file.

    ``db_path`` defaults to ``webui/monitoring.db``; missing folders are made; ``":memory:"`` is
    private to the object. ``models`` are registered at open. ``durability`` is ``"full"`` (a call
    that returned survives a power cut) or ``"normal"`` (it survives a crash of the process).
    ``pool_size`` is the most reader connections of the store, ``busy_timeout`` the most seconds
    that a call waits for locks. ``read_only`` never writes. ``cache_bytes`` is the memory for
    request rows that were read; 0 keeps none. ``checksums``, where the file is made, gives each
    request one, by which ``check`` finds values that have changed.

    Raises CannotOpenError, ForeignDatabaseError, NewerDatabaseError, DamagedDatabaseError,
    BusyError, and InvalidDataError for an option out of range.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        *,
        models: Iterable[str] | None = None,
        durability: Literal["full", "normal"] = "full",
        pool_size: int = 10,
        busy_timeout: float = 30.0,
        read_only: bool = False,
        cache_bytes: int = 64 << 20,
        checksums: bool = False,
    ) -> None:
        super().__init__(
            db_path,
            models=models,
            durability=durability,
            pool_size=pool_size,
            busy_timeout=busy_timeout,
            read_only=read_only,
            cache_bytes=cache_bytes,
            checksums=checksums,
        )
        _open.add(self)
        _warn_of_two_copies()

    def usage(
        self,
        models: str | Iterable[str] | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        minutes: float | None = None,
        by: Literal["hour", "day", "week", "month"] | float | None = None,
        buckets: int | None = None,
        tz: str | tzinfo | None = None,
        strategy: Strategy | None = None,
        prices: Prices = "historical",
        billing_anchor: date | None = None,
    ) -> UsageTable:
        """What was used and what it cost, a row for each model and bucket of time.

        The window is ``start <= t < end`` (epoch seconds or datetimes) or the last ``minutes``; by
        default everything. ``by`` cuts it at the hours, days, weeks or months of ``tz`` (an IANA
        name or a tzinfo; default: the machine's zone) or into so many seconds; ``buckets`` into so
        many equal parts. Buckets without requests are rows of zeros. ``strategy`` overrides the
        models' own; ``prices="current"`` takes today's prices instead of those of the time.
        ``billing_anchor`` is a day on which a billing period of the cumulative strategy begins
        (default: the first of a month).

        Raises ModelNotFoundError, and InvalidDataError for options that make no sense.
        """
        from datamanager import usage, windows

        cut = by is not None or buckets is not None
        window = windows.window(minutes, start, end, until_now=cut)
        rows, _ = usage.usage(
            self, models, window, by, buckets, tz, strategy, prices, billing_anchor
        )
        return usage.UsageTable(rows, windows.Zone(tz).tz)

    def invoice(
        self,
        models: str | Iterable[str] | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        minutes: float | None = None,
        tz: str | tzinfo | None = None,
        strategy: Strategy | None = None,
        prices: Prices = "historical",
        billing_anchor: date | None = None,
    ) -> Invoice:
        """What is to be paid for a window of time, line by line; ``total`` is their sum.

        A line is for the tokens that paid the prices of one tier while one tariff held, or for a
        model's hours. The options are those of ``usage``, and so is the sum.
        """
        from datamanager import windows
        from datamanager.invoice import usage_and_invoice

        window = windows.window(minutes, start, end)
        asked = (tz, strategy, prices, billing_anchor)
        return usage_and_invoice(self, models, window, *asked)[1]

    def cost(
        self,
        model_name: str,
        input_tokens: int,
        output_tokens: int,
        cache_n: int = 0,
        at: Moment | None = None,
        *,
        strategy: Strategy | None = None,
        tz: str | tzinfo | None = None,
        billing_anchor: date | None = None,
    ) -> Cost:
        """What one request costs at the prices of ``at`` (default: now), and how that comes about.

        Under the cumulative strategy the tokens of the billing period before ``at`` count. A model
        that is billed by the hour has no cost per request.
        """
        from datamanager import usage

        return usage.cost_of(
            self, model_name, input_tokens, output_tokens, cache_n, at, strategy, tz, billing_anchor
        )

    def analyze(self, model_name: str, days: float = 7) -> dict[str, Any]:
        """The manual's ``analyze_model_usage``, with its keys and more, over the last ``days``."""
        from datamanager import usage

        return usage.analyze(self, model_name, days)

    def get_orphaned_models(self, configured: Iterable[str]) -> list[str]:
        """The models known here, with records or not, that are not among ``configured``."""
        if isinstance(configured, str):
            raise _core.InvalidDataError("configured must be an iterable of names, not one str")
        try:
            names = list(configured)
        except TypeError:
            raise _core.InvalidDataError(
                f"configured must be an iterable of names, not {configured!r}"
            ) from None
        for name in names:
            if not isinstance(name, str):
                raise _core.InvalidDataError(f"configured must hold names, not {name!r}")
        known = frozenset(names)
        return [name for name in self.get_models() if name not in known]

    def prune(
        self,
        before: Moment | date,
        keep: Literal["hour", "day"] | None = "hour",
        *,
        dry_run: bool = False,
        models: str | Iterable[str] | None = None,
        tz: str | tzinfo | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> PrunedTable:
        """Remove what was over before ``before``: requests, and runs but the newest.

        ``keep`` says of what sums are kept: the hours or days of ``tz`` (default: the machine's
        zone), or nothing; then those of that time go, too. From the sums ``usage``, ``invoice`` and
        ``cost`` answer as before, at any prices; a question of which an edge lies inside a sum
        raises InvalidDataError. A request whose checksum differs goes into none, and stays.
        ``models`` (default: all, and the runs of the program) are pruned in steps of about 12 ms,
        between which others write. ``dry_run`` only says what would go.
        After Ctrl-C, an exception in ``progress(done, total)`` or a crash, what has gone is in the
        sums and the rest is there.

        Raises ModelNotFoundError, and InvalidDataError for options that make no sense.
        """
        from datamanager.prune import prune

        return prune(self, before, keep, dry_run, models, tz, progress)

    def performance(
        self,
        models: str | Iterable[str] | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        minutes: float | None = None,
        by: Literal["hour", "day", "week", "month"] | float | None = None,
        buckets: int | None = None,
        tz: str | tzinfo | None = None,
    ) -> PerformanceTable:
        """How fast requests were answered, a row for each model and bucket of time.

        Windows and buckets are those of ``usage``. Percentiles are exact: of a column's values, in
        order, the first that at least so many in a hundred are not above (nearest rank). Those of
        ``duration`` and ``first_token``, and the speeds of prompts and generation, are of the
        requests that were recorded with them; None where there is none.

        Raises ModelNotFoundError, and InvalidDataError for options that make no sense.
        """
        from datamanager import performance, windows

        window = windows.window(minutes, start, end, until_now=True)
        return performance.performance(self, models, window, by, buckets, tz)

    def add_response(
        self,
        model_name: str,
        obj: object,
        *,
        timestamp: Moment | None = None,
        request_id: str | None = None,
    ) -> int | None:
        """Record a request by the response of the server that answered it, and return its id.

        ``usage_from_response`` says what ``obj`` may be. ``timestamp`` is that of the response, or
        now, unless it is given; its times, where it has any, are kept too. With a ``request_id`` it
        is there once, however often it is recorded. None inside a batch.
        """
        from datamanager import responses

        return responses.add_response(self, model_name, obj, timestamp, request_id)

    def export(
        self,
        dest: str | os.PathLike[str],
        format: Literal["csv", "jsonl", "parquet"] = "csv",
        models: str | Iterable[str] | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        progress: Callable[[int, int], object] | None = None,
        overwrite: bool = False,
    ) -> int:
        """Write the requests of one moment to the file ``dest``, and return how many.

        Those of ``models`` (default: all) with ``start <= timestamp < end``, in order of their ids.
        The file is readable by its owner alone and appears when it is whole and on the disk; on
        failure, and after Ctrl-C or an exception in ``progress(done_rows, total_rows)``, what was
        there stays. A request without an id gets one in the file, so that importing it again, here
        or elsewhere, adds nothing. What was pruned is no request any more, and is left out. Parquet
        needs pyarrow (``pip install 'datamanager[parquet]'``).

        Raises DestinationExistsError where there is a file and ``overwrite`` is not set,
        ModelNotFoundError, and InvalidDataError for options that make no sense, or a name whose end
        stands for another format or for compression.
        """
        from datamanager.exchange import writing

        return writing.export(self, dest, format, models, start, end, progress, overwrite)

    def import_requests(
        self,
        src: str | os.PathLike[str],
        format: Literal["csv", "jsonl", "parquet"] | None = None,
        *,
        model: str | None = None,
        columns: Mapping[str, str] | None = None,
        tz: str | tzinfo | None = None,
        strict: bool = False,
        on_bad_line: Callable[[int, str], object] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> ImportResult:
        """Add the requests of a file, each exactly once, however often it is imported.

        ``format`` is by default what the name ends in. Lines that name no model are of ``model``.
        ``columns`` says how the file calls a field: ``{"timestamp": "TIMESTAMP"}``. Times are epoch
        seconds or ISO 8601; those without an offset are of ``tz`` (default: the machine's zone). A
        line is known by its ``request_id``, or, where it has none, by what is in it and by how many
        equal lines come before it.

        Bad lines are reported, each to ``on_bad_line(line, text)`` and the first 1,000 in the
        result; the others are added. With ``strict`` the file is read through first, and where a
        line is bad, InvalidDataError is raised and nothing is added. An import that was stopped is
        simply repeated. ``progress(done, total)`` counts bytes, of Parquet rows, and with
        ``strict`` twice; of what has no size, like a pipe, the total is 0 until all is read.
        """
        from datamanager.exchange import importing

        return importing.import_requests(
            self, src, format, model, columns, tz, strict, on_bad_line, progress
        )

    def get_model_status(
        self,
        model_name: str,
        *,
        stale_after: float = 30.0,
        start: Moment | None = None,
        end: Moment | None = None,
        minutes: float | None = None,
    ) -> ModelStatus:
        """Whether the model is running, since when, and what it did since it began.

        It is where the end of its newest run, its last heartbeat, is younger than ``stale_after``
        seconds. The window (by default the last 24 hours) is that of ``availability``.
        """
        from datamanager import status

        return status.model_status(self, model_name, stale_after, start, end, minutes)

    def get_status(
        self,
        *,
        stale_after: float = 30.0,
        start: Moment | None = None,
        end: Moment | None = None,
        minutes: float | None = None,
    ) -> StatusTable:
        """The same of the program, which is the first row, and of all models."""
        from datamanager import status

        return status.status(self, stale_after, start, end, minutes)
