"""What is refused: each rule, on each way in, with nothing stored."""

from __future__ import annotations

import ctypes
import math
import sqlite3
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import datamanager
from datamanager import CorruptDataError, InvalidDataError

WHOLE = "a whole number from 0 to 9007199254740992"
FIELDS = ["timestamp", "input_tokens", "output_tokens", "cache_n", "prompt_n"]
YEAR_10000 = 253_402_300_800.0
BAD_TIMES = [math.nan, math.inf, -math.inf, -1.0, "1", None, True, 10**400, 1j, YEAR_10000]
BAD_COUNTS = [-1, 1.5, True, np.True_, 2**53 + 1, 2**70, math.nan, math.inf, "7", None, [1]]
CASES = [(0, bad) for bad in BAD_TIMES] + [(i, bad) for i in range(1, 5) for bad in BAD_COUNTS]


def spoiled(field: int, bad: Any) -> list[Any]:
    row: list[Any] = [1.0, 2, 3, 4, 5]
    row[field] = bad
    return row


@pytest.mark.parametrize(("field", "bad"), CASES)
def test_bad_request(dm: datamanager.DataManager, field: int, bad: Any) -> None:
    row = spoiled(field, bad)
    with pytest.raises(InvalidDataError, match=f"^{FIELDS[field]} must be "):
        dm.add_model_request("m", row)
    with pytest.raises(InvalidDataError, match=f"^row 1: {FIELDS[field]} must be "):
        dm.add_model_requests("m", [[1, 2, 3, 4, 5], row])
    columns = {name: [1, row[i]] for i, name in enumerate(FIELDS)}
    with pytest.raises(InvalidDataError, match=f"^row 1: {FIELDS[field]} must be "):
        dm.add_model_requests("m", columns)
    with pytest.raises(InvalidDataError), dm.batch():
        dm.add_model_request("m", [1, 2, 3, 4, 5])
        dm.add_model_request("m", row)
    assert dm.get_models() == []


@pytest.mark.parametrize("row", [[], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6], "12345", b"12345", 5, None])
def test_bad_shape(dm: datamanager.DataManager, row: Any) -> None:
    with pytest.raises(InvalidDataError, match="request_data must"):
        dm.add_model_request("m", row)
    assert dm.get_models() == []


@pytest.mark.parametrize("bad", [Decimal(2**53 + 1), Decimal(7) + Decimal("1e-20"), Fraction(1, 3)])
def test_exact_numbers(dm: datamanager.DataManager, bad: Decimal | Fraction) -> None:
    """A double cannot tell the first two from whole numbers that are right."""
    with pytest.raises(InvalidDataError, match="input_tokens must be a whole number"):
        dm.add_model_request("m", [1, bad, 3, 4, 5])
    assert dm.add_model_request("m", [1, Decimal(2**53), Fraction(6, 2), 4, 5]) == 1
    assert dm.get_model_requests("m") == [datamanager.ModelRequest(1, 1.0, 2**53, 3, 4, 5)]


def test_no_int_is_made_of_what_is_far_too_large(dm: datamanager.DataManager) -> None:
    """That of Decimal("1E+1000000") takes a minute."""
    made: list[Decimal] = []

    class Large(Decimal):
        def __int__(self) -> int:
            made.append(self)
            return 0

    with pytest.raises(
        InvalidDataError, match=r"input_tokens must be a whole number .*1E\+1000000"
    ):
        dm.add_model_request("m", [1, Large("1E+1000000"), 3, 4, 5])
    assert made == []


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("this must not come through")


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (10**5000, "<int that cannot be shown>"),
        (Unshown(), "<Unshown that cannot be shown>"),
        ("x" * 5000, f"'{'x' * 999}..."),
    ],
    ids=["int", "object", "str"],
)
def test_values_that_cannot_be_shown(dm: datamanager.DataManager, bad: Any, shown: str) -> None:
    with pytest.raises(InvalidDataError, match=f"^row 1: cache_n must be {WHOLE}, not {shown}$"):
        dm.add_model_requests("m", [[1, 2, 3, 4, 5], [1, 2, 3, bad, 5]])
    with pytest.raises(InvalidDataError, match=f"^end_time must be .* not {shown}$"):
        dm.update_program_runtime_end(bad)
    with pytest.raises(InvalidDataError, match=f"^durability must be .* not {shown}$"):
        datamanager.DataManager(":memory:", durability=bad)


def test_the_value_is_named(dm: datamanager.DataManager) -> None:
    with pytest.raises(InvalidDataError) as caught:
        dm.add_model_request("m", [1, -5, 3, 4, 5])
    assert str(caught.value) == f"input_tokens must be {WHOLE}, not -5"


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.int32, np.float32, np.float64, int, float])
def test_numbers_of_every_kind(dm: datamanager.DataManager, kind: Any) -> None:
    assert dm.add_model_request("m", [kind(i) for i in range(1, 6)]) == 1
    assert dm.get_model_requests("m")[0] == datamanager.ModelRequest(1, 1.0, 2, 3, 4, 5)


@pytest.mark.parametrize("kind", ["f8", "f4", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1"])
def test_columns_of_every_kind(dm: datamanager.DataManager, kind: str) -> None:
    column = np.arange(20, dtype=kind)[::2]
    assert dm.add_model_requests("m", {name: column for name in FIELDS}) == range(1, 11)
    assert [r.input_tokens for r in dm.get_model_requests("m")] == list(range(18, -1, -2))


def test_columns_of_odd_buffers(dm: datamanager.DataManager) -> None:
    without_strides = (ctypes.c_int64 * 3)(1, 2, 3)
    not_aligned = np.frombuffer(bytes(1) + np.arange(3).tobytes(), "i1")[1:].view("i8")
    assert not not_aligned.flags.aligned
    seconds = np.array([2**37] * 3, "u8")
    columns = {**dict.fromkeys(FIELDS, without_strides), "cache_n": not_aligned}
    assert dm.add_model_requests("m", {**columns, "timestamp": seconds}) == range(1, 4)
    requests = dm.get_model_requests("m")
    assert list(requests.input_tokens) == [3, 2, 1] and list(requests.cache_n) == [2, 1, 0]
    assert set(requests.timestamp) == {float(2**37)}
    with pytest.raises(
        InvalidDataError, match=r"row 0: timestamp must .* not 1\.8446743936270598e\+19$"
    ):
        dm.add_model_requests("m", {**columns, "timestamp": seconds + np.uint64(2**64 - 2**38)})


def test_what_a_mask_hides_is_not_read(dm: datamanager.DataManager) -> None:
    good = {name: np.arange(1, 4) for name in FIELDS}
    hidden = np.ma.array([0.5, 9.0, 0.7], mask=[False, True, False])
    with pytest.raises(InvalidDataError, match=r"row 1: timestamp must be .* not None"):
        dm.add_model_requests("m", {**good, "timestamp": hidden})
    dm.add_model_requests("m", {**good, "duration": hidden})
    assert dm.performance()[0].duration_max == 0.7


@pytest.mark.parametrize("kind", [set, frozenset])
def test_sets_have_no_order(dm: datamanager.DataManager, kind: Any) -> None:
    """Which value is of which row would be another in each process."""
    row = (1, 2, 3, 4, 5)
    said = (
        r"rows must be an iterable of rows in order, or a mapping of columns, not (frozenset\()?\{"
    )
    with pytest.raises(InvalidDataError, match=said):
        dm.add_model_requests("m", kind([row]))
    for name in (*FIELDS, "duration"):
        columns = {**{name: [1] for name in FIELDS}, name: kind([1])}
        said = f"column {name} must be a sequence of numbers, not {kind.__name__}$"
        with pytest.raises(InvalidDataError, match=said):
            dm.add_model_requests("m", columns)
    assert dm.get_models() == []


def test_bad_columns(dm: datamanager.DataManager) -> None:
    good = {name: np.arange(3) for name in FIELDS}
    with pytest.raises(InvalidDataError, match="no column prompt_n"):
        dm.add_model_requests("m", {k: v for k, v in good.items() if k != "prompt_n"})
    with pytest.raises(InvalidDataError, match="no others"):
        dm.add_model_requests("m", {**good, "more": np.arange(3)})
    with pytest.raises(InvalidDataError, match="cache_n has 2 values"):
        dm.add_model_requests("m", {**good, "cache_n": np.arange(2)})
    with pytest.raises(InvalidDataError, match="must hold numbers"):
        dm.add_model_requests("m", {**good, "cache_n": np.array([True, False, True])})
    with pytest.raises(InvalidDataError, match="column timestamp must hold numbers"):
        dm.add_model_requests("m", {**good, "timestamp": np.array([1, 2, 3], "datetime64[s]")})
    with pytest.raises(InvalidDataError, match=r"cache_n must hold numbers, not format '>[lq]'"):
        dm.add_model_requests("m", {**good, "cache_n": np.arange(3, dtype=">i8")})
    with pytest.raises(InvalidDataError, match="cache_n must have one dimension of numbers"):
        dm.add_model_requests("m", {**good, "cache_n": np.zeros((3, 1))})
    with pytest.raises(InvalidDataError, match="cache_n must be a sequence of numbers, not dict"):
        dm.add_model_requests("m", {**good, "cache_n": dict.fromkeys(range(3))})
    with pytest.raises(InvalidDataError, match="row 1: cache_n must be"):
        dm.add_model_requests("m", {**good, "cache_n": np.array([0.0, 0.5, 1.0])})
    with pytest.raises(InvalidDataError, match=r"row 1: cache_n must be .* not 1\.8446"):
        dm.add_model_requests("m", {**good, "cache_n": np.array([0, 2**64 - 1, 1], "u8")})
    assert dm.get_models() == []
    assert dm.add_model_requests("m", []) == range(0, 0)


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "é" * 513, 5, None, b"bytes"])
def test_bad_names(dm: datamanager.DataManager, name: Any) -> None:
    with pytest.raises(InvalidDataError, match="model_name must"):
        dm.add_model_request(name, [1, 2, 3, 4, 5])
    assert dm.get_models() == []


@pytest.mark.parametrize(
    "name",
    ["模型", "🦙", 'a"b', "'; DROP TABLE model_name_mapping; --", "é" * 512, " ", "%s", "שלום"],
)
def test_good_names(dm: datamanager.DataManager, name: str) -> None:
    dm.add_model_request(name, [1, 2, 3, 4, 5])
    assert dm.get_models() == [name]
    assert dm.get_model_safe_name(dm.get_safe_model_name(name)) == name
    assert len(dm.get_model_requests(name)) == 1


BAD_TIERS = [
    (0, -1, "tier_index"),
    (1, -1, "start_tokens"),
    (1, 1.5, "start_tokens"),
    (2, 100, "end_tokens must be above start_tokens"),
    (2, 50, "end_tokens must be above start_tokens"),
    (3, math.nan, "input_price_per_million"),
    (4, -0.1, "output_price_per_million"),
    (5, 2, "support_cache"),
    (5, "yes", "support_cache"),
    (6, math.inf, "cache_hit_price_per_million"),
    (6, None, "cache_hit_price_per_million"),
]


@pytest.mark.parametrize(("field", "bad", "text"), BAD_TIERS)
@pytest.mark.parametrize("call", ["add_tier_pricing", "set_tier_pricing", "update_tier_pricing"])
def test_bad_tier(dm: datamanager.DataManager, call: str, field: int, bad: Any, text: str) -> None:
    tier: list[Any] = [1, 100, 200, 1.0, 2.0, True, 0.5]
    tier[field] = bad
    with pytest.raises(InvalidDataError, match=text):
        getattr(dm, call)("m", tier)
    assert dm.get_models() == []


def test_overlapping_tiers(dm: datamanager.DataManager) -> None:
    dm.add_tier_pricing("m", [1, 0, 100, 1, 1, False, None])
    dm.add_tier_pricing("m", [2, 100, 0, 1, 1, False, None])
    with pytest.raises(InvalidDataError, match="would overlap tier 2"):
        dm.add_tier_pricing("m", [3, 5000, 6000, 1, 1, False, None])
    with pytest.raises(InvalidDataError, match="would overlap tier 2"):
        dm.update_tier_pricing("m", [1, 0, 101, 1, 1, False, None])
    assert [t.end_tokens for t in dm.get_model_billing("m").tier_pricing] == [100, 0]


@pytest.mark.parametrize("bad", [math.nan, -1, "1", True, math.inf])
def test_bad_prices(dm: datamanager.DataManager, bad: Any) -> None:
    with pytest.raises(InvalidDataError, match="hourly_price must be"):
        dm.update_hourly_price("m", bad)
    assert dm.get_models() == []


def test_milliseconds_are_no_times(dm: datamanager.DataManager) -> None:
    """Nor are those of nanoseconds; what is taken has a date."""
    text = "must be seconds since 1970 and before the year 10000, not 1760000000333"
    now_ms = 1_760_000_000_333
    for call in (dm.add_model_runtime_start, dm.update_model_runtime_end):
        with pytest.raises(InvalidDataError, match=f"^(start|end)_time {text}$"):
            call("m", now_ms)
    for call in (dm.add_program_runtime_start, dm.update_program_runtime_end):
        with pytest.raises(InvalidDataError, match=f"^(start|end)_time {text}$"):
            call(now_ms)
    with pytest.raises(InvalidDataError, match=f"^effective_from {text}$"):
        dm.update_hourly_price("m", 1.0, effective_from=now_ms)
    assert dm.get_models() == []
    dm.add_model_request("m", [math.nextafter(YEAR_10000, 0), 1, 2, 3, 4])
    assert str(dm.usage(by="month", start=YEAR_10000 - 1, tz="UTC")[0]).count("9999") > 0


def test_end_before_start(dm: datamanager.DataManager) -> None:
    dm.add_model_runtime_start("m", 100.0)
    with pytest.raises(InvalidDataError, match="before the start"):
        dm.update_model_runtime_end("m", 99.0)
    assert dm.get_model_runtime("m")[0].end_time == 100.0


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("timestamp", -1),
        ("timestamp", "x"),
        ("input_tokens", 1.5),
        ("cache_n", "abc"),
        ("prompt_n", -3),
        ("output_tokens", b"\xff"),
    ],
)
def test_bad_values_in_the_file(
    dm: datamanager.DataManager, path: str, column: str, value: Any
) -> None:
    dm.add_model_requests("m", [[1, 2, 3, 4, 5]] * 3)
    table = dm.get_safe_model_name("m") + "_requests"
    other = sqlite3.connect(path)
    other.execute(f"UPDATE {table} SET {column}=? WHERE id=2", [value])
    other.commit()
    other.close()
    with pytest.raises(CorruptDataError, match=f"{table} row 2: {column} must be"):
        dm.get_model_requests("m")


def test_windows(dm: datamanager.DataManager) -> None:
    dm.add_model_requests("m", [[t, 1, 1, 1, 1] for t in range(10)])

    def times(**k: Any) -> list[float]:
        return [r.timestamp for r in dm.get_model_requests("m", **k)]

    assert times(start=3, end=6) == [5.0, 4.0, 3.0]
    assert times(limit=2) == [9.0, 8.0]
    assert times(start=6, end=3) == []
    assert times(minutes=1) == []
    for bad in (
        {"start": math.nan},
        {"limit": -1},
        {"limit": True},
        {"minutes": -1},
        {"minutes": 1, "start": 1},
        {"end": "x"},
    ):
        with pytest.raises(InvalidDataError):
            times(**bad)


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (0, 10, False),
        (0, 10.5, True),
        (10, 11, True),
        (20, 21, True),
        (39.5, 50, True),
        (40, 50, False),
        (20, 20, False),
        (30, 20, False),
    ],
)
def test_windows_of_runs(
    dm: datamanager.DataManager, start: float, end: float, found: bool
) -> None:
    """A run is in each window that it overlaps, and one of no time holds nothing."""
    dm.add_model_runtime_start("m", 10)
    dm.update_model_runtime_end("m", 40)
    dm.add_program_runtime_start(10)
    dm.update_program_runtime_end(40)
    assert len(dm.get_model_runtime("m", start=start, end=end)) == found
    assert len(dm.get_program_runtime(start=start, end=end)) == found


@pytest.mark.parametrize(
    "options",
    [
        {"pool_size": 0},
        {"pool_size": 1001},
        {"busy_timeout": -1},
        {"busy_timeout": math.nan},
        {"durability": "off"},
        {"models": "one"},
        {"models": [""]},
        {"read_only": 2},
        {"cache_bytes": -1},
        {"cache_bytes": 0.5},
    ],
)
def test_bad_options(path: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidDataError):
        datamanager.DataManager(path, **options)


@pytest.mark.parametrize("column", ["timestamp", "duration", "request_id"])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_column_that_cannot_be_read_is_not_one_that_is_missing(
    dm: datamanager.DataManager, column: str, error: type[BaseException]
) -> None:
    class Columns(dict[str, list[int]]):
        def __getitem__(self, name: str) -> list[int]:
            if name == column:
                raise error
            return super().__getitem__(name)

    names = ["timestamp", "input_tokens", "output_tokens", "cache_n", "prompt_n"]
    with pytest.raises(error):
        dm.add_model_requests("m", Columns({name: [1] for name in names}))
    assert dm.get_models() == []


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, None, "1"])
def test_bad_timeout_is_told_what_it_must_be(path: str, bad: Any) -> None:
    wanted = f"busy_timeout must be a finite number of seconds of at least 0, not {bad!r}"
    with pytest.raises(InvalidDataError, match=f"^{wanted}$"):
        datamanager.DataManager(path, busy_timeout=bad)


@pytest.mark.parametrize("name", ["a\0.db", "\ud800.db"])
def test_bad_path(name: str) -> None:
    with pytest.raises(InvalidDataError, match="NUL characters or lone surrogates"):
        datamanager.DataManager(name)


def test_empty_path(dm: datamanager.DataManager) -> None:
    for call, field in (
        (lambda: datamanager.DataManager(""), "db_path"),
        (lambda: dm.backup(""), "dest"),
        (lambda: datamanager.restore("", "usage.db"), "src"),
        (lambda: datamanager.restore("usage.db", ""), "dest"),
    ):
        with pytest.raises(InvalidDataError, match=f"^{field} must not be empty$"):
            call()


def test_the_argument_is_named(dm: datamanager.DataManager) -> None:
    for call, said in (
        (lambda: datamanager.DataManager(5), "db_path must be .*, not int$"),  # type: ignore[arg-type]
        (lambda: dm.backup(None), "dest must be .*, not NoneType$"),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=f"^{said}"):
            call()
    for bad in ("", 5, "n" * 2000):
        with pytest.raises(InvalidDataError, match=r"^new_name must"):
            dm.rename_model("m", bad)  # type: ignore[arg-type]
