"""The drop-in for a host's own ``core/data_manager.py``.

The host's file becomes the one line ``from datamanager.compat import *``.
"""

from __future__ import annotations

import logging
from typing import Any

from datamanager import (
    DataManager as _DataManager,
)
from datamanager import (
    ModelBilling,
    ModelNotFoundError,
    ModelRequest,
    ModelRequests,
    ModelRunTime,
    RunNotFoundError,
    TierNotFoundError,
    TierPricing,
)

__all__ = [
    "DataManager",
    "ModelBilling",
    "ModelRequest",
    "ModelRunTime",
    "Monitor",
    "TierPricing",
]

_logger = logging.getLogger(__name__)


def _configured_models() -> list[str]:
    """The models that the host's own configuration lists, where it has one."""
    try:
        from core.config_manager import ConfigManager

        return list(ConfigManager().get_model_names())
    except Exception as error:  # the host's code: whatever it raises must not keep the store shut
        if not isinstance(error, ImportError):  # it has none
            _logger.exception("the host's configured models could not be read")
        return []


def _truth_of_cache(tier_data: Any) -> Any:
    """The old class took the truth of whatever stood at support_cache."""
    if isinstance(tier_data, (list, tuple)) and len(tier_data) == 7:
        return [*tier_data[:5], bool(tier_data[5]), tier_data[6]]
    return tier_data


class DataManager(_DataManager):
    """DataManager, forgiving where the class that it replaces was."""

    def __init__(self, db_path: Any = None) -> None:
        super().__init__(db_path, models=_configured_models())

    def add_tier_pricing(self, model_name: str, tier_data: Any, **options: Any) -> int:
        return super().add_tier_pricing(model_name, _truth_of_cache(tier_data), **options)

    def update_tier_pricing(self, model_name: str, tier_data: Any, **options: Any) -> None:
        self.set_tier_pricing(model_name, _truth_of_cache(tier_data), **options)

    def delete_tier_pricing(self, model_name: str, tier_index: int, **options: Any) -> None:
        try:
            super().delete_tier_pricing(model_name, tier_index, **options)
        except TierNotFoundError:
            pass

    def update_billing_method(self, model_name: str, use_tier_pricing: Any, **options: Any) -> None:
        super().update_billing_method(model_name, bool(use_tier_pricing), **options)

    def update_model_runtime_end(self, model_name: str, end_time: Any) -> None:
        try:
            super().update_model_runtime_end(model_name, end_time)
        except RunNotFoundError:
            pass

    def update_program_runtime_end(self, end_time: Any) -> None:
        try:
            super().update_program_runtime_end(end_time)
        except RunNotFoundError:
            pass

    def get_model_requests(
        self,
        model_name: str,
        minutes: Any = 0,
        *,
        start: Any = None,
        end: Any = None,
        limit: int = 0,
    ) -> ModelRequests:
        try:
            return super().get_model_requests(
                model_name, minutes, start=start, end=end, limit=limit
            )
        except ModelNotFoundError:
            return ModelRequests([])


Monitor = DataManager
