"""The drop-in for a host's own ``core/data_manager.py``.

The host's file becomes the one line ``from datamanager.compat import *``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

from datamanager import (
    DataManager as _DataManager,
)
from datamanager import (
    InvalidDataError,
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


def _beside(tier: TierPricing, new: TierPricing) -> list[Any] | None:
    """What the new tier leaves of another one; None: nothing. If it is in its midst, their numbers
    say on which side of it the other one goes on."""
    start: float = tier.start_tokens
    end = tier.end_tokens if tier.end_tokens > 0 else math.inf
    new_end = new.end_tokens if new.end_tokens > 0 else math.inf
    inside = start < new.start_tokens and new_end < end
    if new.start_tokens <= start < new_end or (inside and tier.tier_index > new.tier_index):
        start = new_end
    elif new.start_tokens < end <= new_end or inside:
        end = new.start_tokens
    prices = [getattr(tier, name) for name in TierPricing.__match_args__[3:]]
    return [tier.tier_index, start, 0 if end == math.inf else end, *prices] if start < end else None


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
        tier = _truth_of_cache(tier_data)
        try:
            self.set_tier_pricing(model_name, tier, **options)
        except InvalidDataError as error:
            if options or "would overlap" not in str(error):
                raise
            new, held = TierPricing(*tier), self.get_model_billing(model_name).tier_pricing
            others = [_beside(other, new) for other in held if other.tier_index != new.tier_index]
            self.set_pricing(model_name, tiers=[new, *filter(None, others)])

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
