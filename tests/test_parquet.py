"""Parquet files of others, with values that Python cannot hold, and files that are damaged."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
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


# ---- damage ----


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    random = Random(1)
    with DataManager(":memory:") as dm:
        dm.add_model_requests("m", [[random.random(), 1, 2, 3, 4] for _ in range(3000)])
        dm.export(tmp_path / "a.parquet", "parquet")
    return tmp_path / "a.parquet"


def test_a_bit_in_a_page(dm: DataManager, exported: Path) -> None:
    """All times have their own bytes, and nothing else would tell one from another."""
    data = exported.read_bytes()
    times = parquet.read_table(exported, columns=["timestamp"]).column(0).to_pylist()
    at = data.index(struct.pack("<d", times[2000]))
    exported.write_bytes(flipped(data, at, 3))
    said = r"/a\.parquet cannot be read from row 1 on: .*CRC"
    with pytest.raises(InvalidDataError, match=said):
        dm.import_requests(exported, strict=True)


def test_rows_that_are_not_reached(dm: DataManager, exported: Path) -> None:
    """How many rows there are is in no page: fewer than there were would be read."""
    data = exported.read_bytes()
    count = data.rindex(b"\x16\xf0\x2e")  # 3000, as the format has it: of the group of rows
    exported.write_bytes(flipped(data, count + 1, 5))
    said = r"/a\.parquet is damaged: it has 2984 rows, and says 3000"
    with pytest.raises(InvalidDataError, match=said):
        dm.import_requests(exported)


def test_any_bit_of_the_end(dm: DataManager, exported: Path) -> None:
    """Where the library gives up, and with what, differs; what is told does not."""
    data, random, refused = exported.read_bytes(), Random(2), 0
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for _ in range(40):
        exported.write_bytes(flipped(data, random.randrange(end, len(data)), random.randrange(8)))
        try:
            dm.import_requests(exported)
        except InvalidDataError as error:
            refused += "a.parquet" in str(error)
    assert refused > 10


def test_what_the_system_says_stays(dm: DataManager, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        dm.import_requests(tmp_path / "none.parquet")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.parquet"):
        dm.import_requests(tmp_path / "folder.parquet")
