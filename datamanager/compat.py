"""The drop-in for a host's own ``core/data_manager.py``.

The host's file becomes the one line ``from datamanager.compat import *``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

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

_Method = TypeVar("_Method", bound=Callable[..., Any])
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


def _or_all(count: Any) -> Any:
    """The old class took a limit, or minutes, below 0 for all."""
    return 0 if isinstance(count, (int, float)) and count < 0 else count


def _forgiving(method: _Method) -> _Method:
    """Its signature and documentation are those of the method that it overrides."""
    update_wrapper(method, getattr(_DataManager, method.__name__))
    return method


class DataManager(_DataManager):
    """DataManager, forgiving where the class that it replaces was."""

    def __init__(self, db_path: Any = None) -> None:
        super().__init__(db_path, models=_configured_models())

    @_forgiving
    def add_tier_pricing(self, model_name: str, tier_data: Any, **options: Any) -> int:
        return super().add_tier_pricing(model_name, _truth_of_cache(tier_data), **options)

    @_forgiving
    def update_tier_pricing(self, model_name: str, tier_data: Any, **options: Any) -> None:
        self.set_tier_pricing(model_name, _truth_of_cache(tier_data), **options)

    @_forgiving
    def delete_tier_pricing(self, model_name: str, tier_index: int, **options: Any) -> None:
        try:
            super().delete_tier_pricing(model_name, tier_index, **options)
        except TierNotFoundError:
            pass

    @_forgiving
    def update_billing_method(self, model_name: str, use_tier_pricing: Any, **options: Any) -> None:
        super().update_billing_method(model_name, bool(use_tier_pricing), **options)

    @_forgiving
    def update_model_runtime_end(self, model_name: str, end_time: Any) -> None:
        try:
            super().update_model_runtime_end(model_name, end_time)
        except RunNotFoundError:
            pass

    @_forgiving
    def update_program_runtime_end(self, end_time: Any) -> None:
        try:
            super().update_program_runtime_end(end_time)
        except RunNotFoundError:
            pass

    @_forgiving
    def get_program_runtime(self, limit: int = 0, **window: Any) -> list[ModelRunTime]:
        return super().get_program_runtime(_or_all(limit), **window)

    @_forgiving
    def get_model_runtime(
        self, model_name: str, limit: int = 0, **window: Any
    ) -> list[ModelRunTime]:
        return super().get_model_runtime(model_name, _or_all(limit), **window)

    @_forgiving
    def get_model_requests(self, model_name: str, minutes: Any = 0, **window: Any) -> ModelRequests:
        try:
            return super().get_model_requests(model_name, _or_all(minutes), **window)
        except ModelNotFoundError:
            return ModelRequests([])


Monitor = DataManager
