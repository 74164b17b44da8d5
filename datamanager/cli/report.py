"""``report``: a window of time as a page, Markdown, JSON or CSV."""

from __future__ import annotations

from datamanager.cli.command import (
    STRATEGIES,
    Command,
    add_database,
    add_models,
    add_output,
    add_window,
    opened,
    path_of,
)
from datamanager.cli.errors import UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from datamanager.cli.command import Parser
    from datamanager.report.data import Report

_LANGUAGES = ("en", "zh")


def _html(options: Namespace, report: Report) -> str:
    from datamanager.report.page import page

    return page(report, options.lang)


def _markdown(options: Namespace, report: Report) -> str:
    from datamanager.report.documents import markdown

    return markdown(report, options.lang)


def _json(options: Namespace, report: Report) -> str:
    from datamanager.cli.output import json_text
    from datamanager.report.documents import json_of

    return json_text(json_of(report)) + "\n"


def _csv(options: Namespace, report: Report) -> str:
    from datamanager.cli.output import csv_text
    from datamanager.report.documents import invoice_listing

    return csv_text(options, invoice_listing(report))


_FORMS: dict[str, Callable[[Namespace, Report], str]] = {
    ".html": _html,
    ".md": _markdown,
    ".json": _json,
    ".csv": _csv,
}


def _form(options: Namespace) -> str:
    """The ending of the file, or what --json and --csv say; Markdown goes to a terminal."""
    import os

    if options.output is None:
        return {"json": ".json", "csv": ".csv", "table": ".md"}[options.form]
    ending: str = os.path.splitext(options.output)[1].lower()
    if ending not in _FORMS:
        raise UsageError(f"--output wants a name that ends in {', '.join(_FORMS)}")
    if options.form != "table":
        raise UsageError("--output says the form by its ending; --json and --csv go without it")
    database = path_of(options)
    if os.path.exists(options.output) and os.path.samefile(options.output, database):
        raise UsageError("--output is the database itself")
    return ending


def _write(path: str, text: str) -> None:
    """The whole file or none of it; its folder is made where it is missing."""
    import os

    temporary, folder = f"{path}.{os.getpid()}.new", os.path.dirname(path) or "."
    try:
        if not os.path.exists(folder):
            os.makedirs(folder)
        with open(temporary, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename, error.filename2 = path, None  # the name that was given
        raise


def _report(options: Namespace) -> None:
    import sys

    from datamanager.cli.moments import window
    from datamanager.cli.terminal import note
    from datamanager.report.data import gather

    form = _form(options)
    start, end = window(options)
    with note("reading"), opened(options) as dm:
        report = gather(dm, options.models, start, end, options.tz, options.strategy)
    with note("writing"):
        text = _FORMS[form](options, report)
    if options.output is None:
        sys.stdout.write(text)
    else:
        _write(options.output, text)
        if sys.stderr.isatty():
            print(f"wrote {printable(options.output)}", file=sys.stderr)


def _arguments(parser: Parser) -> None:
    add_models(parser)
    add_database(parser)
    add_window(parser)
    parser.add_argument("--strategy", choices=STRATEGIES, help="read the tiers so")
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="a name that ends in .html, .md, .json or .csv (default: Markdown to the terminal)",
    )  # fmt: skip
    parser.add_argument("--lang", choices=_LANGUAGES, default="en", help="English or Chinese")
    add_output(parser)


COMMANDS = (Command("report", "a page of plots, an invoice and more", _report, _arguments),)
