"""Random calls on real handles against a plain-Python model of what the manual means."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import datamanager
from datamanager import DataManager

NAMES = st.sampled_from(["Qwen3-Coder-30B", "模型 🦙", 'a"b; DROP TABLE x'])
TIMES = st.integers(0, 50).map(float)
COUNTS = st.sampled_from([0, 1, 7, 2**53])
ROWS = st.tuples(TIMES, COUNTS, COUNTS, COUNTS, COUNTS)
INDEXES = st.integers(1, 3)
PRICES = st.sampled_from([0.0, 0.1, 2.5])
TIERS = st.tuples(
    INDEXES,
    st.sampled_from([0, 100, 200]),
    st.sampled_from([0, 100, 200, 300]),
    PRICES,
    PRICES,
    st.booleans(),
    PRICES,
)
LIMITS = st.sampled_from([0, 1, 3])
EDGES = st.one_of(st.none(), TIMES)
HANDLES = st.integers(0, 2)
HOURS = st.integers(0, 3)
# One write: a call, and what it is given beside the model's name.
WRITES = st.one_of(
    st.tuples(st.just("add_model_request"), ROWS),
    st.tuples(
        st.sampled_from(
            [
                "add_program_runtime_start",
                "update_program_runtime_end",
                "add_model_runtime_start",
                "update_model_runtime_end",
            ]
        ),
        TIMES,
    ),
    st.tuples(
        st.sampled_from(["add_tier_pricing", "set_tier_pricing", "update_tier_pricing"]), TIERS
    ),
    st.tuples(st.just("delete_tier_pricing"), INDEXES),
    st.tuples(st.just("update_hourly_price"), PRICES),
    st.tuples(st.just("update_billing_method"), st.booleans()),
    st.tuples(st.just("delete_model_tables"), st.none()),
)
FIELDS = ("timestamp", "input_tokens", "output_tokens", "cache_n", "prompt_n")


class Refused(Exception):
    """The model's own way to say which class of error the call must raise."""

    def __init__(self, expected: type[Exception]) -> None:
        self.expected = expected


@dataclass
class Model:
    runs: list[tuple[int, float, float]] = field(default_factory=list)
    requests: list[tuple[Any, ...]] = field(default_factory=list)
    tiers: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    hourly_price: float = 0.0
    use_tier_pricing: bool = True


class World:
    """What the database must hold."""

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self.program: list[tuple[int, float, float]] = []

    def write(self, name: str) -> Model:
        return self.models.setdefault(name, Model())

    def read(self, name: str) -> Model:
        if name not in self.models:
            raise Refused(datamanager.ModelNotFoundError)
        return self.models[name]

    @staticmethod
    def start(runs: list[tuple[int, float, float]], at: float) -> int:
        runs.append((len(runs) + 1, at, at))
        return len(runs)

    @staticmethod
    def end(runs: list[tuple[int, float, float]], at: float) -> None:
        if not runs:
            raise Refused(datamanager.RunNotFoundError)
        if at < runs[-1][1]:
            raise Refused(datamanager.InvalidDataError)
        runs[-1] = (*runs[-1][:2], at)

    @staticmethod
    def runs(
        runs: list[tuple[int, float, float]], limit: int, start: float | None, end: float | None
    ) -> list[tuple[int, float, float]]:
        low = float("-inf") if start is None else start
        high = float("inf") if end is None else end
        found = [
            run
            for run in reversed(runs)
            if low < high and run[1] < high and (run[2] > low or run[1] == run[2] >= low)
        ]
        return found[:limit] if limit else found

    def request(self, name: str, row: tuple[Any, ...]) -> int:
        requests = self.write(name).requests
        requests.append((len(requests) + 1, *row))
        return len(requests)

    def requests(
        self, name: str, limit: int, start: float | None, end: float | None
    ) -> list[tuple[Any, ...]]:
        low = float("-inf") if start is None else start
        high = float("inf") if end is None else end
        found = [row for row in reversed(self.read(name).requests) if low <= row[1] < high]
        return found[:limit] if limit else found

    @staticmethod
    def check_tier(tier: tuple[Any, ...]) -> None:
        if 0 < tier[2] <= tier[1]:
            raise Refused(datamanager.InvalidDataError)

    def tier(self, name: str, tier: tuple[Any, ...], mode: str) -> int | None:
        self.check_tier(tier)
        index, start, end = tier[:3]
        if mode == "update":
            self.read(name)
        tiers = self.models[name].tiers if name in self.models else {}
        if mode == "add" and index in tiers:
            raise Refused(datamanager.TierExistsError)
        if mode == "update" and index not in tiers:
            raise Refused(datamanager.TierNotFoundError)
        top = end if end > 0 else float("inf")
        for other in tiers.values():
            other_top = other[2] if other[2] > 0 else float("inf")
            if other[0] != index and start < other_top and other[1] < top:
                raise Refused(datamanager.InvalidDataError)
        self.write(name).tiers[index] = tier
        return None if mode == "update" else index

    def delete_tier(self, name: str, index: int) -> None:
        if self.read(name).tiers.pop(index, None) is None:
            raise Refused(datamanager.TierNotFoundError)

    def set_hourly_price(self, name: str, price: float) -> None:
        self.write(name).hourly_price = price

    def set_method(self, name: str, use_tier_pricing: bool) -> None:
        self.write(name).use_tier_pricing = use_tier_pricing

    def delete(self, name: str) -> None:
        self.read(name)
        del self.models[name]

    def apply(self, call: str, name: str, value: Any) -> int | None:
        calls: dict[str, Callable[[], int | None]] = {
            "add_model_request": lambda: self.request(name, value),
            "add_program_runtime_start": lambda: self.start(self.program, value),
            "update_program_runtime_end": lambda: self.end(self.program, value),
            "add_model_runtime_start": lambda: self.start(self.write(name).runs, value),
            "update_model_runtime_end": lambda: self.end(self.read(name).runs, value),
            "add_tier_pricing": lambda: self.tier(name, value, "add"),
            "set_tier_pricing": lambda: self.tier(name, value, "set"),
            "update_tier_pricing": lambda: self.tier(name, value, "update"),
            "delete_tier_pricing": lambda: self.delete_tier(name, value),
            "update_hourly_price": lambda: self.set_hourly_price(name, value),
            "update_billing_method": lambda: self.set_method(name, value),
            "delete_model_tables": lambda: self.delete(name),
        }
        return calls[call]()


def values(record: Any) -> tuple[Any, ...]:
    return tuple(vars(record).values())


class Calls(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="datamanager-oracle-")
        self.path = str(Path(self.folder, "usage.db"))
        self.world = World()
        self.now = time.time()
        self.handles: list[DataManager] = []

    @initialize(count=st.integers(1, 3))
    def open(self, count: int) -> None:
        self.handles = [DataManager(self.path) for _ in range(count)]

    def teardown(self) -> None:
        for handle in self.handles:
            handle.close()
        shutil.rmtree(self.folder)

    def handle(self, number: int) -> DataManager:
        return self.handles[number % len(self.handles)]

    def both(self, ours: Any, wanted: Any) -> Any:
        """Both must give the same, or refuse with the same class."""
        try:
            expected = wanted()
        except Refused as refused:
            try:
                got = ours()
            except datamanager.DataManagerError as error:
                assert type(error) is refused.expected, (error, refused.expected)
                assert str(error)
                return None
            raise AssertionError(f"{refused.expected} was expected, not {got!r}") from None
        got = ours()
        assert got == expected, (got, expected)
        return got

    @rule(h=HANDLES, at=TIMES)
    def program_start(self, h: int, at: float) -> None:
        self.both(
            lambda: self.handle(h).add_program_runtime_start(at),
            lambda: self.world.start(self.world.program, at),
        )

    @rule(h=HANDLES, at=TIMES)
    def program_end(self, h: int, at: float) -> None:
        self.both(
            lambda: self.handle(h).update_program_runtime_end(at),
            lambda: self.world.end(self.world.program, at),
        )

    @rule(h=HANDLES, limit=LIMITS)
    def program_runs(self, h: int, limit: int) -> None:
        self.both(
            lambda: [values(run) for run in self.handle(h).get_program_runtime(limit)],
            lambda: self.world.runs(self.world.program, limit, None, None),
        )

    @rule(h=HANDLES, name=NAMES, at=TIMES)
    def model_start(self, h: int, name: str, at: float) -> None:
        self.both(
            lambda: self.handle(h).add_model_runtime_start(name, at),
            lambda: self.world.start(self.world.write(name).runs, at),
        )

    @precondition(lambda self: self.world.models)
    @rule(h=HANDLES, data=st.data(), at=TIMES)
    def model_end(self, h: int, data: st.DataObject, at: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.models)))
        self.both(
            lambda: self.handle(h).update_model_runtime_end(name, at),
            lambda: self.world.end(self.world.read(name).runs, at),
        )

    @rule(h=HANDLES, name=NAMES, limit=LIMITS, start=EDGES, end=EDGES)
    def model_runs(
        self, h: int, name: str, limit: int, start: float | None, end: float | None
    ) -> None:
        self.both(
            lambda: [
                values(run)
                for run in self.handle(h).get_model_runtime(name, limit, start=start, end=end)
            ],
            lambda: self.world.runs(self.world.read(name).runs, limit, start, end),
        )

    @rule(h=HANDLES, name=NAMES, row=ROWS)
    def request(self, h: int, name: str, row: tuple[Any, ...]) -> None:
        self.both(
            lambda: self.handle(h).add_model_request(name, row),
            lambda: self.world.request(name, row),
        )

    @rule(h=HANDLES, name=NAMES, rows=st.lists(ROWS, min_size=1, max_size=6), columns=st.booleans())
    def bulk(self, h: int, name: str, rows: list[tuple[Any, ...]], columns: bool) -> None:
        given: Any = rows
        if columns:
            arrays = [np.array(column) for column in zip(*rows, strict=True)]
            given = dict(zip(FIELDS, arrays, strict=True))

        def wanted() -> range:
            ids = [self.world.request(name, row) for row in rows]
            return range(ids[0], ids[-1] + 1)

        self.both(lambda: self.handle(h).add_model_requests(name, given), wanted)

    @rule(h=HANDLES, name=NAMES, good=ROWS)
    def bulk_with_a_bad_row(self, h: int, name: str, good: tuple[Any, ...]) -> None:
        def wanted() -> None:
            raise Refused(datamanager.InvalidDataError)

        bad = [good, (*good[:4], -1)]
        self.both(lambda: self.handle(h).add_model_requests(name, bad), wanted)

    @rule(h=HANDLES, name=NAMES, rows=st.lists(ROWS, max_size=4), inner=ROWS, fail=st.booleans())
    def batch(
        self, h: int, name: str, rows: list[tuple[Any, ...]], inner: tuple[Any, ...], fail: bool
    ) -> None:
        dm = self.handle(h)
        with contextlib.suppress(KeyError), dm.batch() as batch:
            for row in rows:
                assert dm.add_model_request(name, row) is None
            with contextlib.suppress(LookupError), dm.batch():
                assert dm.add_model_requests(name, [inner]) is None
                raise LookupError
            dm.add_program_runtime_start(5.0)
            if fail:
                raise KeyError
        if not fail:
            expected = [self.world.request(name, row) for row in rows]
            expected.append(self.world.start(self.world.program, 5.0))
            assert batch.ids == expected

    @rule(h=HANDLES, writes=st.lists(st.tuples(NAMES, WRITES), max_size=8))
    def batch_of_all_writes(self, h: int, writes: list[tuple[str, tuple[str, Any]]]) -> None:
        """All, one after the other; or, where one is refused, none. Values are checked at once."""
        world = copy.deepcopy(self.world)

        def ours() -> Any:
            dm = self.handle(h)
            with dm.batch() as batch:
                for name, (call, value) in writes:
                    given = [] if "program" in call else [name]
                    getattr(dm, call)(*given, *([] if value is None else [value]))
            return batch.ids

        def wanted() -> list[Any]:
            for _, (call, value) in writes:
                if call in ("add_tier_pricing", "set_tier_pricing", "update_tier_pricing"):
                    world.check_tier(value)
            ids = [world.apply(call, name, value) for name, (call, value) in writes]
            return [
                id_ if call.startswith("add") and "tier" not in call else None
                for id_, (_, (call, _)) in zip(ids, writes, strict=True)
            ]

        if self.both(ours, wanted) is not None:
            self.world = world

    @rule(h=HANDLES, name=NAMES, limit=LIMITS, start=EDGES, end=EDGES)
    def requests(
        self, h: int, name: str, limit: int, start: float | None, end: float | None
    ) -> None:
        self.both(
            lambda: [
                values(request)
                for request in self.handle(h).get_model_requests(
                    name, limit=limit, start=start, end=end
                )
            ],
            lambda: self.world.requests(name, limit, start, end),
        )

    @rule(h=HANDLES, name=NAMES, row=ROWS, hours=HOURS)
    def recent_request(self, h: int, name: str, row: tuple[Any, ...], hours: int) -> None:
        """Half an hour from each edge that `recent_requests` asks for: slowness moves no row."""
        self.request(h, name, (self.now - hours * 3600 - 1800, *row[1:]))

    @rule(h=HANDLES, name=NAMES, hours=HOURS, limit=LIMITS)
    def recent_requests(self, h: int, name: str, hours: int, limit: int) -> None:
        self.both(
            lambda: [
                values(request)
                for request in self.handle(h).get_model_requests(name, 60 * hours, limit=limit)
            ],
            lambda: self.world.requests(
                name, limit, self.now - hours * 3600 if hours else None, None
            ),
        )

    @rule(h=HANDLES, name=NAMES, tier=TIERS, mode=st.sampled_from(["add", "set", "update"]))
    def tier(self, h: int, name: str, tier: tuple[Any, ...], mode: str) -> None:
        self.both(
            lambda: getattr(self.handle(h), f"{mode}_tier_pricing")(name, tier),
            lambda: self.world.tier(name, tier, mode),
        )

    @precondition(lambda self: self.world.models)
    @rule(h=HANDLES, data=st.data(), index=INDEXES)
    def tier_delete(self, h: int, data: st.DataObject, index: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.models)))
        self.both(
            lambda: self.handle(h).delete_tier_pricing(name, index),
            lambda: self.world.delete_tier(name, index),
        )

    @rule(h=HANDLES, name=NAMES, price=PRICES, method=st.booleans())
    def billing_change(self, h: int, name: str, price: float, method: bool) -> None:
        assert self.handle(h).update_hourly_price(name, price) is None
        assert self.handle(h).update_billing_method(name, method) is None
        self.world.set_hourly_price(name, price)
        self.world.set_method(name, method)

    @rule(h=HANDLES, name=NAMES)
    def billing(self, h: int, name: str) -> None:
        def ours() -> Any:
            got = self.handle(h).get_model_billing(name)
            return got.use_tier_pricing, got.hourly_price, [values(t) for t in got.tier_pricing]

        def wanted() -> Any:
            model = self.world.read(name)
            tiers = [tier for _, tier in sorted(model.tiers.items())]
            return model.use_tier_pricing, model.hourly_price, tiers

        self.both(ours, wanted)

    @rule(h=HANDLES, name=NAMES)
    def delete(self, h: int, name: str) -> None:
        self.both(lambda: self.handle(h).delete_model_tables(name), lambda: self.world.delete(name))

    @rule(h=HANDLES, name=NAMES)
    def names(self, h: int, name: str) -> None:
        dm = self.handle(h)
        safe = "model_" + hashlib.sha256(name.encode()).hexdigest()[:16]
        assert dm.get_safe_model_name(name) == safe
        known = name in self.world.models
        assert dm.get_models() == list(self.world.models)
        assert dm.get_model_safe_name(name) == (safe if known else None)
        assert dm.get_model_safe_name(safe) == (name if known else None)

    @rule(h=HANDLES, all_of_them=st.booleans())
    def reopen(self, h: int, all_of_them: bool) -> None:
        chosen = range(len(self.handles)) if all_of_them else [h % len(self.handles)]
        for number in chosen:
            self.handles[number].close()
        for number in chosen:
            self.handles[number] = DataManager(self.path)

    @invariant()
    def the_file_agrees(self) -> None:
        if not self.handles:
            return
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            order = "SELECT original_name, safe_name FROM model_name_mapping ORDER BY id"
            mapping = db.execute(order).fetchall()
            assert [row[0] for row in mapping] == list(self.world.models)
            assert db.execute("SELECT * FROM program_runtime").fetchall() == self.world.program
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema")}
            assert len([name for name in tables if name.startswith("model_")]) == 1 + 4 * len(
                mapping
            )
            for name, safe in mapping:
                model = self.world.models[name]
                assert db.execute(f"SELECT * FROM {safe}_runtime").fetchall() == model.runs
                assert db.execute(f"SELECT * FROM {safe}_requests").fetchall() == model.requests
                assert db.execute(f"SELECT * FROM {safe}_billing").fetchall() == [
                    (model.use_tier_pricing, model.hourly_price)
                ]
                assert db.execute(f"SELECT * FROM {safe}_tier_pricing").fetchall() == [
                    tier for _, tier in sorted(model.tiers.items())
                ]


def test_random_calls() -> None:
    run_state_machine_as_test(
        Calls,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            phases=(Phase.generate,),  # shrinking takes minutes; the printed steps are enough
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
