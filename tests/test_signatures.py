"""What inspect, help() and the records say of themselves."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import datamanager
from datamanager import DataManager

SIGNATURES = {
    "close": "(self, /)",
    "add_program_runtime_start": "(self, /, start_time)",
    "update_program_runtime_end": "(self, /, end_time)",
    "get_program_runtime": "(self, /, limit=0, *, start=None, end=None)",
    "add_model_runtime_start": "(self, /, model_name, start_time)",
    "update_model_runtime_end": "(self, /, model_name, end_time)",
    "get_model_runtime": "(self, /, model_name, limit=0, *, start=None, end=None)",
    "add_model_request": (
        "(self, /, model_name, request_data, *, duration=None, first_token=None, request_id=None)"
    ),
    "add_model_requests": "(self, /, model_name, rows, *, request_ids=None)",
    "get_model_requests": ("(self, /, model_name, minutes=0, *, start=None, end=None, limit=0)"),
    "add_tier_pricing": "(self, /, model_name, tier_data, *, effective_from=None)",
    "update_tier_pricing": "(self, /, model_name, tier_data, *, effective_from=None)",
    "set_tier_pricing": "(self, /, model_name, tier_data, *, effective_from=None)",
    "delete_tier_pricing": "(self, /, model_name, tier_index, *, effective_from=None)",
    "update_hourly_price": "(self, /, model_name, hourly_price, *, effective_from=None)",
    "update_billing_method": "(self, /, model_name, use_tier_pricing, *, effective_from=None)",
    "set_billing_strategy": "(self, /, model_name, strategy, *, effective_from=None)",
    "set_pricing": (
        "(self, /, model_name, *, tiers=None, hourly_price=None, use_tier_pricing=None, "
        "strategy=None, effective_from=None)"
    ),
    "get_model_billing": "(self, /, model_name)",
    "get_price_history": "(self, /, model_name)",
    "invoice": (
        "(self, models: 'str | Iterable[str] | None' = None, *, start: 'Moment | None' = None, "
        "end: 'Moment | None' = None, minutes: 'float | None' = None, "
        "tz: 'str | tzinfo | None' = None, strategy: 'Strategy | None' = None, "
        "prices: 'Prices' = 'historical', billing_anchor: 'date | None' = None) -> 'Invoice'"
    ),
    "usage": (
        "(self, models: 'str | Iterable[str] | None' = None, *, start: 'Moment | None' = None, "
        "end: 'Moment | None' = None, minutes: 'float | None' = None, "
        "by: \"Literal['hour', 'day', 'week', 'month'] | float | None\" = None, "
        "buckets: 'int | None' = None, tz: 'str | tzinfo | None' = None, "
        "strategy: 'Strategy | None' = None, prices: 'Prices' = 'historical', "
        "billing_anchor: 'date | None' = None) -> 'UsageTable'"
    ),
    "cost": (
        "(self, model_name: 'str', input_tokens: 'int', output_tokens: 'int', cache_n: 'int' = 0, "
        "at: 'Moment | None' = None, *, strategy: 'Strategy | None' = None, "
        "tz: 'str | tzinfo | None' = None, billing_anchor: 'date | None' = None) -> 'Cost'"
    ),
    "add_response": (
        "(self, model_name: 'str', obj: 'object', *, timestamp: 'Moment | None' = None, "
        "request_id: 'str | None' = None) -> 'int | None'"
    ),
    "analyze": "(self, model_name: 'str', days: 'float' = 7) -> 'dict[str, Any]'",
    "performance": (
        "(self, models: 'str | Iterable[str] | None' = None, *, start: 'Moment | None' = None, "
        "end: 'Moment | None' = None, minutes: 'float | None' = None, "
        "by: \"Literal['hour', 'day', 'week', 'month'] | float | None\" = None, "
        "buckets: 'int | None' = None, tz: 'str | tzinfo | None' = None) -> 'PerformanceTable'"
    ),
    "get_model_status": (
        "(self, model_name: 'str', *, stale_after: 'float' = 30.0, "
        "start: 'Moment | None' = None, end: 'Moment | None' = None, "
        "minutes: 'float | None' = None) -> 'ModelStatus'"
    ),
    "get_status": (
        "(self, *, stale_after: 'float' = 30.0, "
        "start: 'Moment | None' = None, end: 'Moment | None' = None, "
        "minutes: 'float | None' = None) -> 'StatusTable'"
    ),
    "get_safe_model_name": "(self, /, model_name)",
    "get_model_safe_name": "(self, /, model_name)",
    "get_models": "(self, /)",
    "delete_model_tables": "(self, /, model_name)",
    "batch": "(self, /)",
    "check": "(self, /, quick=False, *, repair=False)",
    "stats": "(self, /)",
    "get_storage_stats": "(self, /)",
    "vacuum": "(self, /, progress=None)",
    "prune": (
        "(self, before: 'Moment | date', keep: \"Literal['hour', 'day'] | None\" = 'hour', *, "
        "dry_run: 'bool' = False, models: 'str | Iterable[str] | None' = None, "
        "tz: 'str | tzinfo | None' = None, "
        "progress: 'Callable[[int, int], object] | None' = None) -> 'PrunedTable'"
    ),
    "rename_model": "(self, /, old_name, new_name, *, merge=True)",
    "get_orphaned_models": "(self, configured: 'Iterable[str]') -> 'list[str]'",
    "backup": "(self, /, dest, progress=None, *, overwrite=False)",
    "export": (
        "(self, dest: 'str | os.PathLike[str]', "
        "format: \"Literal['csv', 'jsonl', 'parquet']\" = 'csv', "
        "models: 'str | Iterable[str] | None' = None, start: 'Moment | None' = None, "
        "end: 'Moment | None' = None, *, progress: 'Callable[[int, int], object] | None' = None, "
        "overwrite: 'bool' = False) -> 'int'"
    ),
    "import_requests": (
        "(self, src: 'str | os.PathLike[str]', "
        "format: \"Literal['csv', 'jsonl', 'parquet'] | None\" = None, *, "
        "model: 'str | None' = None, columns: 'Mapping[str, str] | None' = None, "
        "tz: 'str | tzinfo | None' = None, strict: 'bool' = False, "
        "on_bad_line: 'Callable[[int, str], object] | None' = None, "
        "progress: 'Callable[[int, int], object] | None' = None) -> 'ImportResult'"
    ),
}


def test_every_public_call_is_listed() -> None:
    public = {name for name in dir(DataManager) if not name.startswith("_")}
    assert public - {"closed", "db_path"} == set(SIGNATURES)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    method = getattr(DataManager, name)
    assert str(inspect.signature(method)) == SIGNATURES[name]
    assert inspect.getdoc(method)
    assert name in pydoc.plain(pydoc.render_doc(method))


def test_constructor() -> None:
    names = list(inspect.signature(DataManager).parameters)
    wanted = "db_path models durability pool_size busy_timeout read_only cache_bytes checksums"
    assert names == wanted.split()


def test_all() -> None:
    assert sorted(datamanager.__all__) == sorted(set(datamanager.__all__))
    for name in datamanager.__all__:
        thing: Any = getattr(datamanager, name)
        assert inspect.getdoc(thing), name
        assert thing.__module__.startswith("datamanager")


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        ("InvalidDataError", ValueError),
        ("ModelNotFoundError", ValueError),
        ("TierExistsError", ValueError),
        ("TierNotFoundError", LookupError),
        ("RunNotFoundError", LookupError),
        ("BusyError", TimeoutError),
        ("DiskFullError", OSError),
        ("StorageError", OSError),
        ("CannotOpenError", OSError),
        ("DestinationExistsError", FileExistsError),
        ("ClosedError", RuntimeError),
        ("ForkedStoreError", RuntimeError),
        ("CorruptDataError", ValueError),
        ("DamagedDatabaseError", OSError),
        ("ForeignDatabaseError", ValueError),
        ("NewerDatabaseError", RuntimeError),
        ("ReadOnlyError", PermissionError),
        ("FileMovedError", OSError),
    ],
)
def test_errors(name: str, parent: type[Exception]) -> None:
    error = getattr(datamanager, name)
    assert issubclass(error, datamanager.DataManagerError)
    assert issubclass(error, parent)


def test_keywords_and_mistakes(dm: DataManager) -> None:
    assert dm.add_model_request(request_data=[1, 2, 3, 4, 5], model_name="m") == 1
    with pytest.raises(TypeError, match="request_data"):
        dm.add_model_request("m")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="keyword argument"):
        dm.get_models(nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        dm.get_model_requests("m", 0, 1.0)  # type: ignore[misc]


def test_the_types_of_answers_can_be_imported(dm: datamanager.DataManager, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("model,timestamp,input_tokens,output_tokens\nm,5,1,1\nm,x,1,1\n")
    result = dm.import_requests(file)
    assert type(result) is datamanager.ImportResult
    assert type(result.bad_lines[0]) is datamanager.BadLine
    assert type(dm.usage()) is datamanager.UsageTable
    assert type(dm.performance()) is datamanager.PerformanceTable
    assert type(dm.get_status().models) is datamanager.StatusTable
    assert type(dm.prune(before=1.0)) is datamanager.PrunedTable
    dm.set_pricing("m", tiers=[[1, 0, 0, 1, 1, False, 0]])
    assert type(invoice := dm.invoice()) is datamanager.Invoice
    assert type(invoice[0]) is datamanager.InvoiceLine


def test_names_that_come_later_are_listed() -> None:
    code = "import datamanager; print({*datamanager.__all__} - {*dir(datamanager)})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_types(tmp_path: Path) -> None:
    """A name mistyped is an error, and a column a buffer, also before Python 3.12."""
    api = pytest.importorskip("mypy.api", reason="needs the library of the dev extra")
    user = tmp_path / "user.py"
    user.write_text(
        "from datamanager import Invoice, ModelRequests, UsageTables\n"
        "def of(requests: ModelRequests) -> memoryview:\n"
        "    return memoryview(requests.output_tokens)\n"
    )
    options = ["--strict", "--python-version=3.11", f"--cache-dir={tmp_path}"]
    said = api.run([*options, str(user)])[0]
    assert 'has no attribute "UsageTables"' in said and "Found 1 error" in said, said
