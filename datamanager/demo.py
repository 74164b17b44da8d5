"""The main job on a new database: requests are replayed through the documented calls."""

from __future__ import annotations

import csv
import os
import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from datamanager import DataManager
from datamanager.cli.terminal import progress
from datamanager.usage import TOKENS_MAX

Event = tuple[str, list[float]]  # model, [timestamp, input, output, cache hits, computed]

_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
_DAY_S = 86400
_HEARTBEAT_S = 300
_RESTART_S = 8 * 3600
_HOURLY = "本地嵌入 embedding-small"
_REPLAYED = "replayed {done} of {total} requests"
_MODELS = ["Qwen3-Coder-30B", "Llama-3.3-70B", _HOURLY]


def generated_day(seed: int = 7, count: int = 3000) -> list[Event]:
    """A seeded day of traffic, in order of time."""
    chance = random.Random(seed)
    times = sorted(1_760_000_000 + chance.uniform(0, _DAY_S) for _ in range(count))
    events: list[Event] = []
    for moment in times:
        tokens = int(chance.lognormvariate(6.5, 1.2)) + 1
        hits = int(tokens * chance.random()) if chance.random() < 0.4 else 0
        output = int(chance.lognormvariate(5.0, 1.0)) + 1
        events.append((chance.choice(_MODELS), [moment, tokens, output, hits, tokens - hits]))
    return events


def _trace_event(row: dict[str, str]) -> Event:
    stamp, _, digits = row["TIMESTAMP"].partition(".")
    second = datetime.fromisoformat(stamp + "+00:00").timestamp()
    tokens, output = int(row["ContextTokens"]), int(row["GeneratedTokens"])
    if second < 0 or min(tokens, output) < 0 or max(tokens, output) > TOKENS_MAX:
        raise ValueError("a time before 1970, or tokens below 0 or above 2^53")
    return _MODELS[0], [second + float("0." + (digits or "0")), tokens, output, 0, tokens]


def trace_events(file: str) -> Iterator[Event]:
    """A trace of the columns TIMESTAMP (UTC, 100 ns digits), ContextTokens, GeneratedTokens.

    Raises ValueError naming file and line where a row is not that.
    """
    with open(file, newline="", encoding="utf-8-sig", errors="replace") as lines:
        rows = csv.DictReader(lines)
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or [])]
        if missing:
            raise ValueError(f"{file}: line 1: there is no column {', '.join(missing)}")
        try:
            for row in rows:
                if None in row.values():
                    raise ValueError("the row is cut short")
                yield _trace_event(row)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{file}: line {rows.line_num}: {error}") from error


def _prices(dm: DataManager, names: Iterable[str]) -> None:
    for name in names:
        if name == _HOURLY:
            dm.update_hourly_price(name, 0.5)
            dm.update_billing_method(name, use_tier_pricing=False)
        else:
            dm.add_tier_pricing(name, [1, 0, 32768, 2.0, 8.0, True, 0.4])
            dm.add_tier_pricing(name, [2, 32768, 0, 4.0, 16.0, True, 0.8])


def _restart(dm: DataManager, names: Iterable[str], moment: float) -> None:
    for name in names:
        dm.update_model_runtime_end(name, moment)
        dm.add_model_runtime_start(name, moment)


def _replay(dm: DataManager, events: list[Event]) -> None:
    names = sorted({name for name, _ in events}, key=_MODELS.index)
    begin, end = events[0][1][0], events[-1][1][0]
    _prices(dm, names)
    dm.add_program_runtime_start(begin)
    for name in names:
        dm.add_model_runtime_start(name, begin)
    beat, restart = begin + _HEARTBEAT_S, begin + _RESTART_S
    for name, request in progress(events, len(events), _REPLAYED):
        if request[0] >= restart:
            _restart(dm, names, restart)
            restart += _RESTART_S
        dm.add_model_request(name, request)
        if request[0] >= beat:
            dm.update_program_runtime_end(request[0])
            beat = request[0] + _HEARTBEAT_S
    for name in names:
        dm.update_model_runtime_end(name, end)
    dm.update_program_runtime_end(end)


@dataclass(frozen=True)
class Replay:
    """What was replayed, how long it took, and where it is."""

    requests: int
    seconds: float
    path: str


def replay(trace: str | None = None, folder: str | None = None) -> Replay:
    """Replay the trace, or a generated day, into ``webui/monitoring.db`` under the folder."""
    events = list(trace_events(trace)) if trace else generated_day()
    if not events:
        raise ValueError(f"{trace}: the trace holds no request")
    if any(a[1][0] > b[1][0] for a, b in pairwise(events)):
        events.sort(key=lambda event: event[1][0])
    path = os.path.join(folder or tempfile.mkdtemp(prefix="datamanager-"), "webui", "monitoring.db")
    if os.path.exists(path):
        raise ValueError(f"{path} exists already: the demo wants a new database")
    began = time.monotonic()
    with DataManager(path) as dm:
        _replay(dm, events)
    return Replay(len(events), time.monotonic() - began, path)
