"""Files that want to harm whoever opens them: an error of ours or right answers, soon, in little
memory, and none of their SQL runs.

Each kind is a file of ours that was changed, or something else in its place. A process uses it as a
host would. Statements of the file that run leave something in its table ``canary``; the control is
a plain connection, in which they do. DM_MUTATIONS files more, each with several kinds and changed
bytes, for a longer run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from datamanager import DataManager

MUTATIONS, SHARES = int(os.environ.get("DM_MUTATIONS", "64")), 8
BIG = "hex(zeroblob(400000000))"  # more than the process may have
LIMITED = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
"""
USE = (
    LIMITED.format(seconds=20)
    + """
from datamanager import DataManager, DataManagerError
path, begun, errors = sys.argv[1], time.process_time(), []

def attempt(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except DataManagerError as error:
        errors.append(f"{type(error).__name__}: {error}"[:300])

def use(dm):
    for name in [*(attempt(dm.get_models) or [])[:20], "m", "new"]:
        attempt(dm.get_model_requests, name)
        attempt(dm.get_model_runtime, name)
        attempt(dm.get_model_billing, name)
        attempt(dm.usage, name)
        attempt(dm.performance, name)
        attempt(dm.add_model_request, name, [1.0, 2, 3, 4, 5])
        attempt(dm.add_model_requests, name, [[1.0, 2, 3, 4, 5]] * 200)
        attempt(dm.add_model_runtime_start, name, 1.0)
        attempt(dm.update_model_runtime_end, name, 2.0)
        attempt(dm.set_tier_pricing, name, [9, 900, 1000, 1, 1, False, None])
        attempt(dm.update_hourly_price, name, 1.5)
    attempt(dm.add_program_runtime_start, 1.0)
    attempt(dm.prune, 1.5, models="m")
    attempt(dm.rename_model, "new", "newer")
    attempt(dm.delete_model_tables, "newer")
    attempt(dm.get_status)
    attempt(dm.get_storage_stats)
    attempt(dm.check)
    attempt(dm.vacuum)

for read_only in (True, False):
    dm = attempt(DataManager, path, read_only=read_only, busy_timeout=0.2)
    if dm is not None:
        use(dm)
        dm.close()
print(f"{time.process_time() - begun:.3f}", len(errors), *sorted(set(errors))[:40], sep="\\n")
"""
)


def make(path: Path) -> None:
    with DataManager(str(path), durability="normal") as dm:
        dm.add_model_requests("m", [[1.7e9 + i, 100, 50, 10, 90] for i in range(500)])
        dm.add_model_runtime_start("m", 1.7e9)
        dm.set_tier_pricing("m", [1, 0, 100, 1.0, 2.0, False, None])
        dm.add_model_request("other", [1.7e9, 1, 2, 3, 4])
    sql(path, "CREATE TABLE canary(x)")


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA trusted_schema=ON")
        for statement in statements:
            db.execute(statement)


def canaries(path: Path) -> int | None:
    """What the statements of the file have left; None where not even that can be read.

    What has got there otherwise, from a table of the same page, is no such number.
    """
    with (
        contextlib.suppress(sqlite3.Error),
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db,
    ):
        db.execute("PRAGMA writable_schema=ON")  # a schema that is broken elsewhere is read, too
        return int(db.execute("SELECT count(*) FROM canary WHERE x=271828").fetchone()[0])
    return None


# ---- kinds made by SQL ----

SAFE = "model_62c66a7a5dd70c31"  # of "m"
R = f"{SAFE}_requests"
COLUMNS = (
    "id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp REAL NOT NULL, input_tokens INTEGER NOT NULL,"
    " output_tokens INTEGER NOT NULL, cache_n INTEGER NOT NULL, prompt_n INTEGER NOT NULL"
)
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n)"


def trigger(when: str, table: str) -> str:
    return f'CREATE TRIGGER t {when} ON "{table}" BEGIN INSERT INTO canary VALUES(271828); END'


def instead_of_requests(sql: str) -> list[str]:
    return [f'DROP TABLE "{R}"', sql]


def table(more: str, end: str = "") -> list[str]:
    return instead_of_requests(f'CREATE TABLE "{R}"({COLUMNS}, {more}){end}')


def view(source: str) -> list[str]:
    columns = "id,1.0 AS timestamp,1 AS input_tokens,1 AS output_tokens,1 AS cache_n,1 AS prompt_n"
    return instead_of_requests(f'CREATE VIEW "{R}" AS {source.format("x AS " + columns)}')


def index(on: str) -> list[str]:
    return [f'DELETE FROM "{R}"', f'CREATE INDEX i ON "{R}"{on}']


def row(values: str) -> list[str]:
    columns = "timestamp,input_tokens,output_tokens,cache_n,prompt_n"
    return [f'INSERT INTO "{R}"({columns}) VALUES({values})']


def name(original: str, safe: str = "'model_x'") -> list[str]:
    return [f"INSERT INTO model_name_mapping(original_name,safe_name) VALUES({original},{safe})"]


def schema(change: str) -> list[str]:
    return ["PRAGMA writable_schema=ON", f"UPDATE sqlite_schema SET {change} WHERE name='{R}'"]


def rewritten(pragma: str) -> list[str]:
    return ["PRAGMA journal_mode=DELETE", f"PRAGMA {pragma}", "VACUUM"]


def prices(changes: int, tiers: int) -> list[str]:
    """A change that sets tiers, and others after it, in which they go on."""
    return [
        "DELETE FROM datamanager_price_changes",
        "DELETE FROM datamanager_price_tiers",
        f"INSERT INTO datamanager_price_changes VALUES('{SAFE}',1,NULL,0,1,0,'graduated',1)",
        f"{ENDLESS} INSERT INTO datamanager_price_tiers"
        f" SELECT '{SAFE}',1,x,x-1,x,1.0,1.0,0,0.0 FROM n LIMIT {tiers}",
        f"{ENDLESS} INSERT INTO datamanager_price_changes"
        f" SELECT '{SAFE}',x+1,x,0,NULL,0.0,NULL,0 FROM n LIMIT {changes}",
    ]


BY_SQL: dict[str, list[str]] = {
    "trigger on insert": [trigger("AFTER INSERT", R)],
    "trigger before insert": [trigger("BEFORE INSERT", R)],
    "trigger on delete": [trigger("AFTER DELETE", R)],
    "trigger on runs": [trigger("AFTER UPDATE", f"{SAFE}_runtime")],
    "trigger on prices": [trigger("AFTER UPDATE", f"{SAFE}_billing")],
    "trigger on tiers": [trigger("AFTER INSERT", f"{SAFE}_tier_pricing")],
    "trigger on names": [trigger("AFTER INSERT", "model_name_mapping")],
    "trigger that fails": [
        f"CREATE TRIGGER t BEFORE INSERT ON \"{R}\" BEGIN SELECT RAISE(ABORT,'no'); END"
    ],
    "view": view("SELECT {} FROM (SELECT 1 AS x)"),
    "view with a trigger": [
        *view("SELECT {} FROM (SELECT 1 AS x)"),
        trigger("INSTEAD OF INSERT", R),
    ],
    "endless view": view(ENDLESS + " SELECT {} FROM n"),
    "view of names": [
        "ALTER TABLE model_name_mapping RENAME TO names",
        "CREATE VIEW model_name_mapping AS SELECT * FROM names",
    ],
    "endless view of names": [
        "DROP TABLE model_name_mapping",
        f"CREATE VIEW model_name_mapping AS {ENDLESS} SELECT x AS id,x AS original_name,"
        f"'{SAFE}' AS safe_name,0 AS created_at FROM n",
    ],
    "generated column": table(f"g GENERATED ALWAYS AS (length({BIG})) VIRTUAL"),
    "stored generated column": table(f"g GENERATED ALWAYS AS ({BIG}) STORED"),
    "generated timestamp": instead_of_requests(
        f'CREATE TABLE "{R}"(id INTEGER PRIMARY KEY, timestamp GENERATED ALWAYS AS (1.0),'
        " input_tokens, output_tokens, cache_n, prompt_n)"
    ),
    "check": table(f"CHECK(length({BIG})>0)"),
    "check that is never true": table("CHECK(timestamp<0)"),
    "default": table(f"d DEFAULT ({BIG})"),
    "foreign key": table("f REFERENCES canary(x) ON DELETE CASCADE"),
    "without rowid": instead_of_requests(
        f'CREATE TABLE "{R}"(id INTEGER PRIMARY KEY, timestamp REAL, input_tokens, output_tokens,'
        " cache_n, prompt_n) WITHOUT ROWID"
    ),
    "full-text table": instead_of_requests(
        f'CREATE VIRTUAL TABLE "{R}" USING'
        " fts5(id, timestamp, input_tokens, output_tokens, cache_n, prompt_n)"
    ),
    "index on an expression": index(f"(timestamp+length({BIG}))"),
    "partial index": index(f"(timestamp) WHERE length({BIG})>1"),
    "huge value": row("1,zeroblob(200000000),1,1,1"),
    "text for numbers": row("'now','many',x'00',1,1"),
    "infinity": row("9e999,1,1,1,1"),
    "negative": row("-1,-1,1,1,1"),
    "a finding in each row": [
        f'{ENDLESS} INSERT INTO "{R}"(timestamp,input_tokens,output_tokens,cache_n,prompt_n)'
        " SELECT -x,-1,-1,-1,-1 FROM n LIMIT 200000"
    ],
    "above all counts": row("1,9223372036854775807,9223372036854775807,1,1"),
    "last of all ids": [f'INSERT INTO "{R}" VALUES(9223372036854775807,1,1,1,1,1)'],
    "endless price": [f'UPDATE "{SAFE}_billing" SET hourly_price=9e999'],
    "tiers of text": [f"UPDATE \"{SAFE}_tier_pricing\" SET start_tokens='a',end_tokens=x'ff'"],
    "many prices of many tiers": prices(4000, 4000),
    "as many prices of as many tiers as there may be": prices(2900, 100),
    "prices for each hour of years": prices(50_000, 1),
    "many tiers": [
        f'{ENDLESS} INSERT INTO "{SAFE}_tier_pricing"'
        " SELECT x+9,x*9,x*9+9,1,1,0,0 FROM n LIMIT 50000"
    ],
    "huge name": name("hex(zeroblob(20000000))"),
    "name that is no text": name("CAST(x'fffe' AS TEXT)"),
    "name with NUL": name("CAST(x'610062' AS TEXT)"),
    "empty name": name("''", "''"),
    "SQL for a safe name": name("'evil'", "'x\"; INSERT INTO canary VALUES(271828); --'"),
    "schema for a safe name": name("'evil'", "'sqlite_master'"),
    "two models of one table": name("'twin'", f"'{SAFE.upper()}'"),
    "unknown collation": schema("sql=replace(sql,'timestamp REAL','timestamp REAL COLLATE evil')"),
    "schema that is no SQL": schema("sql='CREATE TABLE'"),
    "schema that selects": schema(f"sql='CREATE TABLE x AS SELECT {BIG}'"),
    "two tables of one page": schema(
        "rootpage=(SELECT rootpage FROM sqlite_schema WHERE name='program_runtime')"
    ),
    "page beyond the end": schema("rootpage=99999999"),
    "newer version": ["PRAGMA user_version=2000000000"],
    "negative version": ["PRAGMA user_version=-5"],
    "no log": ["PRAGMA journal_mode=DELETE"],
    "full vacuum": rewritten("auto_vacuum=FULL"),
    "large pages": rewritten("page_size=65536"),
    "small pages": rewritten("page_size=512"),
}


# ---- kinds made of bytes, and of other things than files ----


def patch(at: int, value: bytes) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at : at + len(value)] = value
        path.write_bytes(data)

    return change


def beside(suffix: str, size: int) -> Callable[[Path], object]:
    data = random.Random(7).randbytes(size)
    return lambda path: Path(f"{path}{suffix}").write_bytes(data)


def log_of_another(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE canary(x)")
        db.execute("INSERT INTO canary VALUES(271828)")
        Path(f"{path}-wal").write_bytes(Path(f"{other}-wal").read_bytes())


def utf16(path: Path) -> None:
    path.unlink()
    sql(path, "PRAGMA encoding='UTF-16le'", "CREATE TABLE canary(x)",
        "CREATE TABLE model_name_mapping(id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " original_name TEXT UNIQUE NOT NULL, safe_name TEXT UNIQUE NOT NULL, created_at)",
        "INSERT INTO model_name_mapping(original_name,safe_name) VALUES('m'," + f"'{SAFE}')",
        f'CREATE TABLE "{R}"({COLUMNS})')  # fmt: skip


def many_tables(path: Path) -> None:
    sql(path, "BEGIN", *(f"CREATE TABLE t{i}(a)" for i in range(5000)), "COMMIT")


def instead(put: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        put(path)

    return change


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


BY_BYTES: dict[str, Callable[[Path], object]] = {
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one page": lambda path: os.truncate(path, 4096),
    "one byte": lambda path: os.truncate(path, 1),
    "page size of 3": patch(16, b"\0\3"),
    "reserved bytes": patch(20, b"\xff"),
    "more pages than there are": patch(28, struct.pack(">I", 2**31)),
    "free pages in a circle": patch(32, struct.pack(">II", 2, 99)),
    "other format": patch(18, b"\x09\x09"),
    "schema page of noise": patch(100, random.Random(1).randbytes(3996)),
    "second page of noise": patch(4096, random.Random(2).randbytes(4096)),
    "log of noise": beside("-wal", 100_000),
    "index of the log of noise": beside("-shm", 32768),
    "journal of noise": beside("-journal", 100_000),
    "log of another": log_of_another,
    "UTF-16": utf16,
    "many tables": many_tables,
    "empty": instead(Path.touch),
    "noise": instead(lambda path: path.write_bytes(random.Random(3).randbytes(100_000))),
    "zeros": instead(lambda path: path.write_bytes(bytes(100_000))),
    "fifo": instead(lambda path: os.mkfifo(path)),
    "socket": instead(a_socket),
    "folder": instead(Path.mkdir),
    "link to itself": instead(lambda path: path.symlink_to(path)),
    "link to a device": instead(lambda path: path.symlink_to("/dev/zero")),
    "link to nowhere": instead(lambda path: path.symlink_to("/nowhere/at/all.db")),
    "second hard link": lambda path: os.link(path, f"{path}.link"),
}


# ---- files that change while they are open ----

WHILE_OPEN = """
import sys, time
from datamanager import DataManager, DataManagerError
dm = DataManager(sys.argv[1])
print(dm.add_model_request("m", [1.0, 2, 3, 4, 5]), flush=True)
sys.stdin.readline()
until, error = time.monotonic() + 5, None
while error is None and time.monotonic() < until:
    try:
        dm.add_model_request("m", [1.0, 2, 3, 4, 5])
    except DataManagerError as caught:
        error = caught
print(type(error).__name__)
dm.close()
"""


def replaced(path: Path) -> None:
    path.with_name("new.db").write_bytes(b"another's")
    path.with_name("new.db").rename(path)


CHANGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "replaced": (replaced, "FileMovedError"),
    "unlinked": (Path.unlink, "FileMovedError"),
    "renamed": (lambda path: path.rename(f"{path}.away"), "FileMovedError"),
    "folder renamed": (lambda path: path.parent.rename(f"{path.parent}.away"), "FileMovedError"),
    "second hard link": (lambda path: os.link(path, f"{path}.link"), "NoneType"),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_changed_while_open(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "folder" / "usage.db"
    path.parent.mkdir()
    change, wanted = CHANGED[kind]
    command = [sys.executable, "-c", WHILE_OPEN, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdin and process.stdout.readline()
        change(path)
        out, errors = process.communicate("go\n", timeout=60)
    assert (process.returncode, errors, out.strip()) == (0, "", wanted)
    if kind == "replaced":
        assert path.read_bytes() == b"another's"


# ---- the trial ----


def use(path: Path) -> list[str]:
    """What it took and met; no error but ours, none of them unexpected, in bounded time."""
    done = subprocess.run(
        [sys.executable, "-c", USE, path], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2000:]
    spent, *texts = done.stdout.splitlines()
    assert float(spent) < 5 and "unexpected error" not in done.stdout, texts
    return [f"{spent} s", *texts]


@pytest.mark.parametrize("kind", [*BY_SQL, *BY_BYTES])
def test_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "usage.db"
    make(path)
    if kind in BY_SQL:
        sql(path, *BY_SQL[kind])
    else:
        BY_BYTES[kind](path)
    print(*use(path), sep="\n    ")
    if kind in BY_SQL:
        assert canaries(path) == 0


def mutate(path: Path, chance: random.Random) -> None:
    """Some kinds after each other, as far as they go together, and some bytes."""
    with contextlib.suppress(sqlite3.Error):
        for kind in chance.sample([*BY_SQL], chance.randrange(4)):
            sql(path, *BY_SQL[kind])
    with path.open("r+b") as file:
        filled = [at for at, byte in enumerate(file.read(1 << 18)) if byte]
        for _ in range(chance.randrange(6)):
            file.seek(chance.choice(filled))
            file.write(chance.randbytes(chance.randint(1, 8)))


@pytest.mark.parametrize("share", range(SHARES))
def test_mutations(tmp_path: Path, share: int) -> None:
    for seed in range(share, MUTATIONS, SHARES):
        path = tmp_path / f"{seed}.db"
        make(path)
        mutate(path, random.Random(seed))
        before = canaries(path)  # the bytes may have been the canary's
        print(seed, *use(path), sep="\n    ")
        assert canaries(path) == before


def test_names_are_as_expected(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    make(path)
    with DataManager(str(path)) as dm:
        assert dm.get_safe_model_name("m") == SAFE


PLAIN = (
    LIMITED.format(seconds=3)
    + """
import sqlite3
sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall()
"""
)
A_ROW = (
    f'INSERT INTO "{R}"(timestamp,input_tokens,output_tokens,cache_n,prompt_n) VALUES(1,1,1,1,1)'
)


@pytest.mark.parametrize(
    "kind, statement, end",
    [
        ("check", A_ROW, (1, "MemoryError")),
        ("endless view", f'SELECT count(*) FROM "{R}"', (-signal.SIGKILL, "")),
    ],
)
def test_control_of_room_and_time(
    tmp_path: Path, kind: str, statement: str, end: tuple[int, str]
) -> None:
    """What a plain connection runs takes all that it may have."""
    path = tmp_path / "usage.db"
    make(path)
    sql(path, *BY_SQL[kind])
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, path, statement],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.strip()[-11:]) == end


@pytest.mark.parametrize("kind", ["trigger on insert", "view with a trigger"])
def test_control(tmp_path: Path, kind: str) -> None:
    """A plain connection runs what is in the file."""
    path = tmp_path / "usage.db"
    make(path)
    sql(path, *BY_SQL[kind])
    sql(path, A_ROW)
    assert canaries(path) == 1
