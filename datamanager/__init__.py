"""The usage and billing store of a local LLM manager: see docs/manual.md."""

from typing import TYPE_CHECKING

from datamanager._core import (
    Batch,
    BusyError,
    CannotOpenError,
    ClosedError,
    Column,
    CorruptDataError,
    Cost,
    CostSlice,
    DamagedDatabaseError,
    DataManagerError,
    DestinationExistsError,
    DiskFullError,
    FileMovedError,
    Finding,
    ForeignDatabaseError,
    ForkedStoreError,
    InvalidDataError,
    ModelBilling,
    ModelNotFoundError,
    ModelRequest,
    ModelRequests,
    ModelRunTime,
    ModelStatus,
    NewerDatabaseError,
    PerformanceRow,
    Pruned,
    ReadOnlyError,
    RunNotFoundError,
    StorageError,
    Tariff,
    TierExistsError,
    TierNotFoundError,
    TierPricing,
    UsageRow,
    cost,
    restore,
)
from datamanager.manager import DataManager, sqlite_info

if TYPE_CHECKING:
    from datamanager.responses import ResponseUsage, usage_from_response

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "BusyError",
    "CannotOpenError",
    "ClosedError",
    "Column",
    "CorruptDataError",
    "Cost",
    "CostSlice",
    "DamagedDatabaseError",
    "DataManager",
    "DataManagerError",
    "DestinationExistsError",
    "DiskFullError",
    "FileMovedError",
    "Finding",
    "ForeignDatabaseError",
    "ForkedStoreError",
    "InvalidDataError",
    "ModelBilling",
    "ModelNotFoundError",
    "ModelRequest",
    "ModelRequests",
    "ModelRunTime",
    "ModelStatus",
    "NewerDatabaseError",
    "PerformanceRow",
    "Pruned",
    "ReadOnlyError",
    "ResponseUsage",
    "RunNotFoundError",
    "StorageError",
    "Tariff",
    "TierExistsError",
    "TierNotFoundError",
    "TierPricing",
    "UsageRow",
    "cost",
    "restore",
    "sqlite_info",
    "usage_from_response",
]


def __getattr__(name: str) -> object:
    """What few need is imported when it is asked for: it would take most of the start-up."""
    if name in ("ResponseUsage", "usage_from_response"):
        from datamanager import responses

        return getattr(responses, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
