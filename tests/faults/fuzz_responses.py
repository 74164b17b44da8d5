"""Any bytes as a response or a stream of them: what is said of it can be stored, or it is refused.

Options and folders are libFuzzer's. With DM_PLANT a bug is planted, which must be found.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["datamanager"]):
    from datamanager import DataManager, InvalidDataError, usage_from_response
    from datamanager.responses import counts

if os.environ.get("DM_PLANT"):  # what is counted is no longer looked at
    module: Any = sys.modules[counts.__module__]
    module._tokens = module.at
dm = DataManager(":memory:", durability="normal", models=["m"])


def one_input(data: bytes) -> None:
    try:
        usage = usage_from_response(data)
    except InvalidDataError as error:
        assert str(error)
        return
    row = [usage.timestamp or 0.0, *usage[1:5]]
    with dm.batch():
        dm.add_model_request("m", row, duration=usage.duration, first_token=usage.first_token)
    dm.prune(1e300, keep=None, models="m", tz="UTC")


atheris.Setup(sys.argv, one_input)
atheris.Fuzz()
