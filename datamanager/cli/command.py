"""What a command is made of, and the options that commands share."""

from __future__ import annotations

import argparse
import os
import re
from contextlib import contextmanager
from typing import NamedTuple

from datamanager.cli.errors import USAGE, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, NoReturn

    from datamanager import DataManager


STRATEGIES = ("graduated", "volume", "cumulative")
WAIT_S = 30  # for locks


class Parser(argparse.ArgumentParser):
    """One that says what is wrong in a line, and sends nothing raw to the terminal."""

    part = ""  # of a group: the command that it is where none is named
    parts: tuple[str, ...] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.part and not (args and args[0] in (*self.parts, "-h", "--help")):
            args = [self.part, *args]
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        help_with = f"'{self.prog} --help' says what there is"
        self.exit(USAGE, f"datamanager: {printable(message)}: {help_with}\n")


class Command(NamedTuple):
    """A command, or a group of ``parts``; ``part`` is the one that it does where none is named."""

    name: str
    help: str
    run: Callable[[Namespace], int | None] | None = None  # None: 0, done
    arguments: Callable[[Parser], None] = lambda parser: None
    parts: tuple[Command, ...] = ()
    part: str = ""


def add_commands(parser: Parser, commands: Iterable[Command]) -> None:
    """Give the parser its commands, and those of the groups among them."""
    choices = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    for command in commands:
        added = choices.add_parser(command.name, help=command.help, description=command.help)
        command.arguments(added)
        if command.run is not None:
            added.set_defaults(run=command.run)
        if command.parts:
            add_commands(added, command.parts)
            added.part, added.parts = command.part, tuple(part.name for part in command.parts)


# ---- shared options ----


def add_output(parser: Parser) -> None:
    """How the result is written."""
    group = parser.add_argument_group("output").add_mutually_exclusive_group()
    for form, meaning in (("json", "one JSON object"), ("csv", "comma-separated values")):
        group.add_argument(
            f"--{form}", dest="form", action="store_const", const=form, default="table",
            help=meaning,
        )  # fmt: skip


def seconds(text: str) -> float:
    """So many, which somebody may wait; argparse calls it by its name."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def add_database(parser: Parser) -> None:
    """Which file."""
    parser.add_argument(
        "--db",
        metavar="FILE",
        default=argparse.SUPPRESS,  # or it would hide one that stands before the command
        help="the database (default: $DATAMANAGER_DB or webui/monitoring.db)",
    )

    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=seconds,
        default=WAIT_S,
        help=f"at most so long for others who write (default: {WAIT_S})",
    )


def add_zone(parser: Parser) -> None:
    """Whose clock times are read and shown by."""
    parser.add_argument("--tz", metavar="ZONE", help="like Europe/Berlin (default: this machine's)")


def add_window(parser: Parser) -> None:
    """From when to when."""
    add_zone(parser)
    group = parser.add_argument_group(
        "window", "WHEN: 7d, 12h, '3 months' ago; 2026-10-05, 2026-10, 2026-10-05T12:30, today, now"
    )
    group.add_argument("--since", "--from", metavar="WHEN", dest="since", help="from then on")
    group.add_argument("--until", "--to", metavar="WHEN", dest="until", help="a day or month: all")
    group.add_argument("--month", metavar="YYYY-MM", help="that month; or 'this' or 'last'")


def add_models(parser: Parser) -> None:
    """Which models."""
    parser.add_argument("models", metavar="MODEL", nargs="*", help="(default: all)")


# ---- the database ----


def existing(path: str, hint: str = "") -> str:
    """The path, if there is something, or if that cannot be told: then the system says why."""
    try:
        os.stat(path)
    except PermissionError:
        raise
    except OSError:
        raise FileNotFoundError(f"{path}: there is no such file{hint}") from None
    return path


def database_at(path: str, hint: str = "") -> str:
    """The path, if there is something that is not empty: of that, opening would make one."""
    from datamanager import ForeignDatabaseError

    if os.path.isfile(existing(path, hint)) and os.path.getsize(path) == 0:
        raise ForeignDatabaseError(f"{path} is empty, and no database")
    return path


def path_of(options: Namespace) -> str:
    """The file that the options, the environment or the default name. An empty name is a mistake,
    like that of a variable which is not set, and not the default."""
    given = {"--db": options.db, "DATAMANAGER_DB": os.environ.get("DATAMANAGER_DB")}
    for source, name in given.items():
        if name == "":
            raise UsageError(f"{source} is empty: it must name the database")
        if name is not None:
            return str(name)
    return os.path.join("webui", "monitoring.db")


@contextmanager
def naming(what: str, path: str) -> Iterator[None]:
    """Values that are refused inside say of ``what`` they are, where they do not name the path.
    Errors of a database name it by themselves."""
    from datamanager import InvalidDataError

    try:
        yield
    except InvalidDataError as error:
        text = str(error)
        if not re.search(rf"(^|\s){re.escape(path)}([\s:]|$)", text):
            error.args = (f"{what}: {text}",)
        raise


@contextmanager
def telling_adopt(path: str) -> Iterator[None]:
    """What must be converted first is refused with the command for it."""
    from datamanager import ReadOnlyError

    try:
        yield
    except ReadOnlyError as error:
        if error.sqlite_errorcode is None:
            error.args = (f"{error}: 'datamanager adopt {path}' does that",)
        raise


def open_file(options: Namespace, path: str, *, write: bool = False) -> DataManager:
    """The database at the path, for reading unless ``write`` is set."""
    from datamanager import DataManager

    with telling_adopt(path):
        return DataManager(path, read_only=not write, busy_timeout=options.wait)


def opened(options: Namespace, *, write: bool = False) -> DataManager:
    """The database, which must be there."""
    path = database_at(path_of(options), " (--db FILE names another)")
    return open_file(options, path, write=write)


def each_model(
    dm: DataManager, named: list[str], call: Callable[[str], Any]
) -> Iterator[tuple[str, Any]]:
    """Each model and what ``call`` says of it: those named, or all but who is deleted meanwhile."""
    from datamanager import ModelNotFoundError

    for name in named or dm.get_models():
        try:
            yield name, call(name)
        except ModelNotFoundError:
            if named:
                raise
