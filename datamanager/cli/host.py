"""``adopt``, ``demo`` and ``sqlite-info``."""

from __future__ import annotations

from datamanager.cli.command import Command, add_output, database_at, existing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from datamanager.cli.command import Parser


def _is_database(path: str) -> bool:
    """Or something that is taken for one, and that opening it will say the right thing of."""
    import os

    return os.path.isfile(path) and not path.endswith(".py")


def _converted(path: str) -> str:
    from datamanager import DataManager

    with DataManager(database_at(path)) as dm:
        count = len(dm.get_models())
    return f"{path} is a database of this version now, with {count} model{'s' * (count != 1)}"


def _adopt(options: Namespace) -> None:
    from datamanager.adopt import adopt, undo
    from datamanager.cli.output import say

    path = existing(options.path)
    if options.undo:
        done = undo(path)
    else:
        done = _converted(path) if _is_database(path) else adopt(path)
    say(options, {"result": done}, done)


def _adopt_arguments(parser: Parser) -> None:
    parser.add_argument(
        "path", metavar="PATH", help="the host's folder or data_manager.py, or its database"
    )
    parser.add_argument("--undo", action="store_true", help="put the host's own file back")
    add_output(parser)


def _demo(options: Namespace) -> None:
    from datamanager import DataManager
    from datamanager.cli.usage import show_usage
    from datamanager.demo import replay

    done = replay(options.trace, options.dir)
    note = (
        f"{done.requests:,} requests, each durable, in {done.seconds:.1f} s; database: {done.path}"
    )
    with DataManager(done.path, read_only=True) as dm:
        show_usage(options, dm, note)


def _demo_arguments(parser: Parser) -> None:
    parser.add_argument("--trace", metavar="CSV", help="a real trace: TIMESTAMP,ContextTokens,...")
    parser.add_argument("--dir", metavar="FOLDER", help="where to put it (default: a new folder)")
    add_output(parser)


def _sqlite_info(options: Namespace) -> None:
    from datamanager import sqlite_info
    from datamanager.cli.output import say

    say(options, sqlite_info())


COMMANDS = (
    Command("adopt", "put the drop-in into a host's tree, or convert its database", _adopt,
            _adopt_arguments),
    Command("demo", "replay requests into a new database and show its sums", _demo,
            _demo_arguments),
    Command("sqlite-info", "which SQLite is in use", _sqlite_info, add_output),
)  # fmt: skip
