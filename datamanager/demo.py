"""The main job on a new database: replay requests through the documented calls, show the sums."""

from __future__ import annotations

import csv
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise

from datamanager import DataManager
from datamanager.tables import layout

Event = tuple[str, list[float]]  # model, [timestamp, input, output, cache hits, computed]

_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
_TOKENS_MAX = 1 << 53  # the core's: a bad row is refused before the first is replayed
_DAY_S = 86400
_HEARTBEAT_S = 300
_HOURLY = "本地嵌入 embedding-small"
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
    if second < 0 or min(tokens, output) < 0 or max(tokens, output) > _TOKENS_MAX:
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


def _progress(events: list[Event]) -> Iterable[Event]:
    live = sys.stderr.isatty()
    shown = time.monotonic()
    for i, event in enumerate(events, 1):
        yield event
        now = time.monotonic()
        if now - shown > (0.1 if live else 2) or i == len(events):
            shown = now
            end = "\r" if live and i < len(events) else "\n"
            text = f"replayed {i:,} of {len(events):,} requests"
            print(text, end=end, file=sys.stderr, flush=True)


def _prices(dm: DataManager, names: Iterable[str]) -> None:
    for name in names:
        if name == _HOURLY:
            dm.update_hourly_price(name, 0.5)
            dm.update_billing_method(name, use_tier_pricing=False)
        else:
            dm.add_tier_pricing(name, [1, 0, 32768, 2.0, 8.0, True, 0.4])
            dm.add_tier_pricing(name, [2, 32768, 0, 4.0, 16.0, True, 0.8])


def _replay(dm: DataManager, events: list[Event]) -> None:
    names = sorted({name for name, _ in events}, key=_MODELS.index)
    begin, end = events[0][1][0], events[-1][1][0]
    _prices(dm, names)
    dm.add_program_runtime_start(begin)
    for name in names:
        dm.add_model_runtime_start(name, begin)
    beat = begin + _HEARTBEAT_S
    for name, request in _progress(events):
        dm.add_model_request(name, request)
        if request[0] >= beat:
            dm.update_program_runtime_end(request[0])
            beat = request[0] + _HEARTBEAT_S
    for name in names:
        dm.update_model_runtime_end(name, end)
    dm.update_program_runtime_end(end)


def _row(dm: DataManager, name: str) -> list[str]:
    used = dm.usage(name)[0]
    return [
        name,
        f"{len(dm.get_model_runtime(name))}",
        f"{used.runtime_seconds / 3600:.2f} h",
        f"{used.requests:,}",
        f"{used.input_tokens:,}",
        f"{used.output_tokens:,}",
        f"{used.cache_hit_share or 0:.1%}",
        f"{used.cost_exact:.6f}",
    ]


def run(trace: str | None = None, folder: str | None = None) -> None:
    """Replay the trace, or a generated day, into ``webui/monitoring.db`` under the folder."""
    events = list(trace_events(trace)) if trace else generated_day()
    if not events:
        raise ValueError(f"{trace}: the trace holds no request")
    if any(a[1][0] > b[1][0] for a, b in pairwise(events)):
        events.sort(key=lambda event: event[1][0])
    path = os.path.join(folder or tempfile.mkdtemp(prefix="datamanager-"), "webui", "monitoring.db")
    if os.path.exists(path):
        raise ValueError(f"{path} exists already: the demo wants a new database")
    with DataManager(path) as dm:
        began = time.monotonic()
        _replay(dm, events)
        seconds = time.monotonic() - began
        header = ["model", "runs", "uptime", "requests", "input", "output", "cache hits", "cost"]
        print(layout(header, [_row(dm, name) for name in dm.get_models()]))
        print(f"{len(events):,} requests, each durable, in {seconds:.1f} s; database: {path}")
