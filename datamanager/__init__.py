"""The usage and billing store of a local LLM manager: see docs/manual.md."""

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

TYPE_CHECKING = False
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
    """Late, as what these import (json, typing, datetime) takes longer than all the rest."""
    if name not in ("ResponseUsage", "usage_from_response"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from datamanager import responses

    return getattr(responses, name)
