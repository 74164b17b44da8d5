"""The drop-in inside a host: its configured models, and its forgiveness."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import datamanager
from datamanager import compat

CONFIG = """
class ConfigManager:
    def get_model_names(self):
        {body}
"""


class Host:
    def __init__(self, root: Path) -> None:
        self.core = root / "core"
        self.core.mkdir()
        (self.core / "__init__.py").touch()
        (self.core / "data_manager.py").write_text("from datamanager.compat import *\n")

    def configure(self, body: str) -> None:
        (self.core / "config_manager.py").write_text(CONFIG.format(body=body))
        importlib.invalidate_caches()

    def load(self) -> ModuleType:
        return importlib.import_module("core.data_manager")


def forget() -> None:
    for name in [name for name in sys.modules if name == "core" or name.startswith("core.")]:
        del sys.modules[name]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield Host(tmp_path)
    forget()


def test_configured_models_are_registered(host: Host) -> None:
    host.configure("return ['b', '模型']")
    with host.load().Monitor() as dm:
        assert dm.get_models() == ["b", "模型"]
        assert len(dm.get_model_requests("b")) == 0
    assert Path("webui/monitoring.db").is_file()


def test_no_configuration(host: Host) -> None:
    with host.load().DataManager("usage.db") as dm:
        assert dm.get_models() == []


def test_failing_configuration(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.configure("raise OSError('no such config')")
    with host.load().DataManager("usage.db") as dm:
        assert dm.get_models() == []
    assert "configured models could not be read" in caplog.text


def test_configuration_that_cannot_be_imported(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    (host.core / "config_manager.py").write_text("open('no such config')")
    importlib.invalidate_caches()
    with host.load().DataManager("usage.db") as dm:
        assert dm.get_models() == []
    assert "configured models could not be read" in caplog.text


def test_names(host: Host) -> None:
    module = host.load()
    assert module.Monitor is module.DataManager
    assert issubclass(module.DataManager, datamanager.DataManager)
    for name in ("ModelRunTime", "ModelRequest", "TierPricing", "ModelBilling"):
        assert getattr(module, name) is getattr(datamanager, name)


def test_signatures_and_help_are_those_of_the_package() -> None:
    forgiving = [name for name in vars(compat.DataManager) if not name.startswith("_")]
    assert "get_model_requests" in forgiving
    for name in forgiving:
        ours, theirs = getattr(compat.DataManager, name), getattr(datamanager.DataManager, name)
        assert inspect.signature(ours) == inspect.signature(theirs)
        assert inspect.getdoc(ours) == inspect.getdoc(theirs)


def test_forgiving(host: Host) -> None:
    with host.load().Monitor("usage.db") as dm:
        dm.update_program_runtime_end(5.0)
        dm.update_hourly_price("m", 0.0)
        dm.update_model_runtime_end("m", 5.0)
        assert dm.get_model_runtime("m") == []
        assert dm.get_program_runtime() == []
        dm.update_tier_pricing("m", [1, 0, 100, 1.0, 2.0, "yes", 0.5])
        assert dm.get_model_billing("m").tier_pricing == [
            datamanager.TierPricing(1, 0, 100, 1.0, 2.0, True, 0.5)
        ]
        dm.delete_tier_pricing("m", 7)
        dm.delete_tier_pricing("m", 1)
        dm.delete_tier_pricing("m", 1)
        assert dm.get_model_billing("m").tier_pricing == []
        dm.update_hourly_price("new", 0.5)
        dm.update_billing_method("newer", 0)
        assert dm.get_model_billing("new").hourly_price == 0.5
        assert dm.get_model_billing("newer").use_tier_pricing is False


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("borders", [(150, 300), (50, 60), (250, 900), (90, 300)])
def test_borders_move_tier_by_tier(
    host: Host, order: tuple[int, ...], borders: tuple[int, int]
) -> None:
    """As hosts save a table of tiers, in any order; the others stay whole meanwhile."""

    def tiers(low: int, high: int) -> list[list[object]]:
        return [
            [1, 0, low, 1, 1, False, 0],
            [2, low, high, 2, 2, True, 1],
            [3, high, 0, 3, 3, 0, 0],
        ]

    with host.load().Monitor("usage.db") as dm:
        dm.set_pricing("m", tiers=tiers(100, 200))
        for i in order:
            dm.update_tier_pricing("m", tiers(*borders)[i])
        wanted = [datamanager.TierPricing(*tier) for tier in tiers(*borders)]
        assert dm.get_model_billing("m").tier_pricing == wanted
        dm.update_tier_pricing("m", [4, 1000, 0, 4, 4, 0, 0])
        ends = [tier.end_tokens for tier in dm.get_model_billing("m").tier_pricing]
        assert ends == [*borders, 1000, 0]
        with pytest.raises(datamanager.InvalidDataError, match="end_tokens must be above"):
            dm.update_tier_pricing("m", [4, 1000, 900, 4, 4, 0, 0])


def test_what_is_below_0_is_all(host: Host) -> None:
    with host.load().Monitor("usage.db") as dm:
        for moment in (1.0, 2.0):
            dm.add_program_runtime_start(moment)
            dm.add_model_runtime_start("m", moment)
            dm.add_model_request("m", [moment, 1, 1, 0, 1])
        assert len(dm.get_program_runtime(-1)) == len(dm.get_program_runtime(limit=-1)) == 2
        assert len(dm.get_model_runtime("m", -1)) == 2
        assert len(dm.get_model_requests("m", -5)) == len(dm.get_model_requests("m", -0.5)) == 2
        assert len(dm.get_program_runtime(1)) == len(dm.get_model_runtime("m", 1)) == 1
        assert len(dm.get_model_requests("m", 5)) == 0
        assert len(dm.get_model_requests("m", start=2.0, limit=1)) == 1


def test_unknown_models(host: Host) -> None:
    with host.load().Monitor("usage.db") as dm:
        assert dm.get_model_requests("nobody") == []
        assert not dm.get_model_requests("nobody", 60)
        for call, *values in (
            (dm.get_model_runtime,),
            (dm.get_model_billing,),
            (dm.delete_model_tables,),
            (dm.update_model_runtime_end, 5.0),
            (dm.delete_tier_pricing, 1),
        ):
            with pytest.raises(ValueError, match="model 'nobody' is not known"):
                call("nobody", *values)
