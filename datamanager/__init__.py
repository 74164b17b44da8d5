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
    from datamanager.exchange.importing import BadLine, ImportResult
    from datamanager.invoice import Invoice, InvoiceLine
    from datamanager.performance import PerformanceTable
    from datamanager.prune import PrunedTable
    from datamanager.responses import ResponseUsage, usage_from_response
    from datamanager.status import StatusTable
    from datamanager.usage import UsageTable

_LATER = {
    "BadLine": "exchange.importing",
    "ImportResult": "exchange.importing",
    "Invoice": "invoice",
    "InvoiceLine": "invoice",
    "PerformanceTable": "performance",
    "PrunedTable": "prune",
    "ResponseUsage": "responses",
    "StatusTable": "status",
    "UsageTable": "usage",
    "usage_from_response": "responses",
}

__version__ = "0.1.0"

__all__ = [
    "BadLine",
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
    "ImportResult",
    "InvalidDataError",
    "Invoice",
    "InvoiceLine",
    "ModelBilling",
    "ModelNotFoundError",
    "ModelRequest",
    "ModelRequests",
    "ModelRunTime",
    "ModelStatus",
    "NewerDatabaseError",
    "PerformanceRow",
    "PerformanceTable",
    "Pruned",
    "PrunedTable",
    "ReadOnlyError",
    "ResponseUsage",
    "RunNotFoundError",
    "StatusTable",
    "StorageError",
    "Tariff",
    "TierExistsError",
    "TierNotFoundError",
    "TierPricing",
    "UsageRow",
    "UsageTable",
    "cost",
    "restore",
    "sqlite_info",
    "usage_from_response",
]


if not TYPE_CHECKING:  # for a checker of types each name, also one mistyped, would be there

    def __getattr__(name: str) -> object:
        """What few need is imported when it is asked for: it would take most of the start-up."""
        module = _LATER.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(f"datamanager.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
