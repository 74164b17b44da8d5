"""``export`` and ``import``: requests out of the database and into it."""

from __future__ import annotations

import sys
from contextlib import contextmanager

from datamanager.cli.command import (
    Command,
    add_database,
    add_models,
    add_output,
    add_window,
    add_zone,
    database_at,
    existing,
    naming,
    open_file,
    opened,
    path_of,
)
from datamanager.cli.errors import WARNED, UsageError, printable
from datamanager.exchange.formats import FORMATS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from datamanager.cli.command import Parser
    from datamanager.exchange.importing import ImportResult


def _add_format(parser: Parser) -> None:
    parser.add_argument(
        "--format", choices=FORMATS, help="(default: what the name ends in; .ndjson is jsonl)"
    )


def _format(options: Namespace, path: str) -> str:
    """Before any work: which, and is there what it needs?"""
    from datamanager.exchange.formats import arrow, format_of

    found = format_of(path, options.format)
    try:
        if found == "parquet":
            arrow()
    except ImportError as error:
        raise UsageError(str(error)) from None
    return found


# ---- export ----


def _export(options: Namespace) -> None:
    from datamanager.cli.moments import window
    from datamanager.cli.output import say
    from datamanager.cli.terminal import meter_of_a_call

    form = _format(options, options.to)
    start, end = window(options)
    with opened(options) as dm:
        meter = meter_of_a_call("wrote {done} of {total} requests")
        count = dm.export(
            options.to, form, options.models or None, start, end,  # type: ignore[arg-type]
            progress=meter, overwrite=options.overwrite,
        )  # fmt: skip
    say(options, {"path": options.to, "requests": count}, f"{options.to} holds {count:,} requests")


def _export_arguments(parser: Parser) -> None:
    parser.add_argument("to", metavar="FILE", help="a new file")
    add_models(parser)
    add_database(parser)
    add_window(parser)
    _add_format(parser)
    parser.add_argument("--overwrite", action="store_true", help="also if there is a file")
    add_output(parser)


# ---- import ----


def _columns(options: Namespace) -> dict[str, str]:
    found = {}
    for word in options.column:
        field, equals, name = word.partition("=")
        if not equals:
            raise UsageError(f"--column wants FIELD=NAME, not {word!r}")
        found[field] = name
    return found


def _teller(source: str) -> Callable[[int, str], None]:
    """Of bad lines, on standard error, above what tells how far it is."""
    begin = "\r\x1b[K" if sys.stderr.isatty() else ""

    def tell(line: int, text: str) -> None:
        print(f"{begin}{printable(f'{source}: line {line}: {text}')}", file=sys.stderr)

    return tell


@contextmanager
def _in_words_of_options() -> Iterator[None]:
    """The way out that an error of the call names."""
    from datamanager import InvalidDataError
    from datamanager.exchange.importing import SEE_COLUMNS, SEE_MODEL

    options = {SEE_MODEL: "(--model names one for all lines)", SEE_COLUMNS: "(see --column)"}
    try:
        yield
    except InvalidDataError as error:
        for said, option in options.items():
            if str(error).endswith(said):
                error.args = (str(error).removesuffix(said) + option,)
        raise


def _show(options: Namespace, result: ImportResult) -> None:
    from datamanager.cli.output import Field, Listing, say, show

    counts = {name: getattr(result, name) for name in ("read", "added", "known", "bad")}
    if options.form == "table":
        text = "{read:,} requests: {added:,} added, {known:,} were there already, {bad:,} are bad"
        say(options, counts, text.format_map(counts))
    else:
        fields = [Field("line", "count"), Field("text", "text")]
        show(options, Listing(fields, result.bad_lines, about=counts))


def _import(options: Namespace) -> int:
    from datamanager.cli.terminal import meter_of_a_call

    source, path = existing(options.source), path_of(options)
    form, columns = _format(options, source), _columns(options)
    if not options.new:
        database_at(path, " (--new makes one)")
    said_of_source = naming(source, source)
    with open_file(options, path, write=True) as dm, said_of_source, _in_words_of_options():
        done = "{done} of {total} " + ("rows" if form == "parquet" else "bytes") + " read"
        result = dm.import_requests(
            source,
            form,  # type: ignore[arg-type]
            model=options.model,
            columns=columns,
            tz=options.tz,
            strict=options.strict,
            on_bad_line=_teller(source),
            progress=meter_of_a_call(done),
        )
    _show(options, result)
    return WARNED if result.bad else 0


def _import_arguments(parser: Parser) -> None:
    parser.add_argument("source", metavar="FILE", help="CSV with a header, JSON lines or Parquet")
    add_database(parser)
    add_zone(parser)
    _add_format(parser)
    parser.add_argument("--model", metavar="NAME", help="of lines that name none")
    parser.add_argument(
        "--column", metavar="FIELD=NAME", action="append", default=[],
        help="what the file calls it, like timestamp=TIMESTAMP; may be repeated",
    )  # fmt: skip
    parser.add_argument("--strict", action="store_true", help="nothing, where a line is bad")
    parser.add_argument("--new", action="store_true", help="make the database where there is none")
    add_output(parser)


COMMANDS = (
    Command("export", "write requests to a file: CSV, JSON lines or Parquet", _export,
            _export_arguments),
    Command("import", "add the requests of a file, each exactly once", _import, _import_arguments),
)  # fmt: skip
