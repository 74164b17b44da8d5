"""Parquet files of others, with values that Python cannot hold."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from datamanager import DataManager, InvalidDataError

pyarrow = pytest.importorskip("pyarrow", reason="needs the library of the parquet extra")
parquet = pytest.importorskip("pyarrow.parquet")


def test_parquet_of_others(dm: DataManager, tmp_path: Path) -> None:
    begin = 1_700_000_000_123_456_789
    columns = {
        "when": pyarrow.array([begin, begin + 1, None], pyarrow.timestamp("ns")),
        "utc": pyarrow.array([begin] * 3, pyarrow.timestamp("ns", "UTC")),
        "in": pyarrow.array([1, -1, 3], pyarrow.int32()),
        "out": pyarrow.array([1.0, 2.0, 3.5], pyarrow.float32()),
        "who": pyarrow.array(["m", "m", "n"]).dictionary_encode(),
        "more": pyarrow.array([[1], [2], None]),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    names = {"model": "who", "input_tokens": "in", "output_tokens": "out"}

    def imported(time: str, zone: str) -> Any:
        given = {**names, "timestamp": time}
        return dm.import_requests(tmp_path / "a.parquet", columns=given, tz=zone)

    result = imported("when", "Asia/Shanghai")
    assert result[:4] == (3, 1, 0, 2)
    assert [bad.line for bad in result.bad_lines] == [2, 3]
    assert "input_tokens" in result.bad_lines[0].text
    assert "there is no when" in result.bad_lines[1].text
    assert imported("utc", "Asia/Shanghai").added == 1
    moments = [request.timestamp for request in dm.get_model_requests("m")]
    assert moments == [1_700_000_000.123456, 1_700_000_000.123456 - 8 * 3600]
    (tmp_path / "b.parquet").write_text("no such thing")
    with pytest.raises(InvalidDataError, match="is no Parquet file"):
        dm.import_requests(tmp_path / "b.parquet")


def test_two_columns_of_a_name(dm: DataManager, tmp_path: Path) -> None:
    names = ["timestamp", "timestamp", "input_tokens", "output_tokens"]
    table = pyarrow.Table.from_arrays([pyarrow.array([1])] * 4, names=names)
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InvalidDataError, match="there are 2 columns 'timestamp'"):
        dm.import_requests(tmp_path / "a.parquet", model="m")


def times(second: int, kind: Any) -> Any:
    return pyarrow.array([1, second, 2], kind)


def no_utf8() -> Any:
    """Files of writers that do not look have such text; pyarrow makes none."""
    ends = pyarrow.py_buffer(struct.pack("4i", 0, 1, 3, 4))
    return pyarrow.Array.from_buffers(
        pyarrow.string(), 3, [None, ends, pyarrow.py_buffer(b"am\xffb")]
    )


BAD = {
    "seconds before all years": ("timestamp", times(-(2**40), pyarrow.timestamp("s"))),
    "seconds after all years": ("timestamp", times(2**50, pyarrow.timestamp("s", "UTC"))),
    "milliseconds that would wrap": ("timestamp", times(2**62, pyarrow.timestamp("ms"))),
    "microseconds": ("timestamp", times(2**62, pyarrow.timestamp("us", "Asia/Tokyo"))),
    "days": ("timestamp", times(2**30, pyarrow.date32())),
    "a model": ("model", no_utf8()),
    "an id": ("request_id", no_utf8()),
}


@pytest.mark.parametrize("what", BAD)
def test_a_value_that_cannot_be_read(dm: DataManager, tmp_path: Path, what: str) -> None:
    field, values = BAD[what]
    columns = {"timestamp": [1, 2, 3], "input_tokens": [1] * 3, "output_tokens": [1] * 3}
    parquet.write_table(pyarrow.table({**columns, field: values}), tmp_path / "a.parquet")
    told: list[tuple[int, str]] = []
    result = dm.import_requests(
        tmp_path / "a.parquet", model="m", tz="UTC", on_bad_line=lambda *line: told.append(line)
    )
    assert told == result.bad_lines
    ((number, text),) = [line for line in told if "cannot be read" in line[1]]
    assert number == 2 and text.startswith(f"{field} cannot be read: ")
    assert result.added == (0 if what == "days" else 2)  # dates are no times


def test_a_zone_that_nobody_knows(dm: DataManager, tmp_path: Path) -> None:
    columns = {
        "timestamp": pyarrow.array([1], pyarrow.timestamp("s", "Nowhere/No")),
        "input_tokens": [1],
        "output_tokens": [1],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    said = r"/a\.parquet: the time zone of column 'timestamp' is not known: 'Nowhere/No'"
    with pytest.raises(InvalidDataError, match=said):
        dm.import_requests(tmp_path / "a.parquet", model="m")
