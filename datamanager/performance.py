"""How fast requests were answered, by model and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from datamanager import windows
from datamanager._core import PerformanceRow
from datamanager.tables import Table
from datamanager.usage import names_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import tzinfo

    from datamanager.manager import DataManager

_RANKS = ("p50", "p90", "p95", "p99", "max")


class PerformanceTable(Table[PerformanceRow]):
    """Performance by model and bucket: models in their order, and for each its buckets in time."""

    _columns: ClassVar = (
        ("model", "u"),
        ("start", "g"),
        ("end", "g"),
        ("requests", "l"),
        ("requests_per_second", "g"),
        ("prompt_tokens_per_second", "g"),
        ("generation_tokens_per_second", "g"),
        *((f"duration_{rank}", "g") for rank in _RANKS),
        *((f"first_token_{rank}", "g") for rank in _RANKS),
        *((f"input_tokens_{rank}", "l") for rank in _RANKS),
        *((f"output_tokens_{rank}", "l") for rank in _RANKS),
    )
    _shown: ClassVar = (
        "model",
        "start",
        "requests",
        "requests_per_second",
        "prompt_tokens_per_second",
        "generation_tokens_per_second",
        "duration_p50",
        "duration_p99",
        "first_token_p50",
        "first_token_p99",
        "input_tokens_p50",
        "output_tokens_p50",
    )


def performance(
    dm: DataManager,
    models: str | Iterable[str] | None,
    window: tuple[float | None, float | None],
    by: str | float | None,
    buckets: int | None,
    tz: str | tzinfo | None,
) -> PerformanceTable:
    names = names_of(models)
    edges = windows.edges(by, buckets, tz, *window, lambda: dm._time_span(names))
    return PerformanceTable(dm._performance(names, edges))
