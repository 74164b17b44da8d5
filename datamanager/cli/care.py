"""``backup``, ``restore``, ``check``, ``prune``, ``vacuum`` …: care of the file."""

from __future__ import annotations

from datamanager.cli.command import (
    Command,
    add_database,
    add_models,
    add_output,
    add_zone,
    database_at,
    naming,
    open_file,
    opened,
    path_of,
    telling_adopt,
)
from datamanager.cli.errors import UNUSABLE, WARNED, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from datamanager import Finding
    from datamanager.cli.command import Parser


def _add_care(parser: Parser) -> None:
    add_database(parser)
    add_output(parser)


# ---- backup and restore ----


def _backup(options: Namespace) -> None:
    import os

    from datamanager.cli.output import say
    from datamanager.cli.terminal import meter_of_a_call

    with opened(options) as dm:
        meter = meter_of_a_call("copied {done} of {total} pages", then=" and checking them")
        dm.backup(options.to, meter, overwrite=options.overwrite)
    size = os.stat(options.to).st_size
    say(options, {"path": options.to, "bytes": size}, f"{options.to} holds it all, {size:,} bytes")


def _backup_arguments(parser: Parser) -> None:
    parser.add_argument("to", metavar="FILE", help="a new file")
    parser.add_argument("--overwrite", action="store_true", help="also if there is a file")
    _add_care(parser)


def _restore(options: Namespace) -> None:
    from datamanager import restore
    from datamanager.cli.output import say
    from datamanager.cli.terminal import meter_of_a_call

    source, path = database_at(options.backup), path_of(options)
    open_file(options, source).close()  # so that what is said of a file names the right one
    meter = meter_of_a_call("copied {done} of {total} pages")
    with naming(f"restoring {source} into {path}", path), telling_adopt(path):
        kept = restore(source, path, meter, busy_timeout=options.wait)
    done = f"{path} holds what {source} holds"
    text = done if kept is None else f"{done}; what it held before is in {kept}"
    say(options, {"path": path, "kept": kept}, text)


def _restore_arguments(parser: Parser) -> None:
    parser.add_argument("backup", metavar="BACKUP", help="what 'datamanager backup' wrote")
    _add_care(parser)


# ---- check ----


def _code(found: Sequence[Finding]) -> int:
    """For the shell, by the worst that is left."""
    left = {finding.severity for finding in found if not finding.repaired}
    return UNUSABLE if "error" in left else WARNED if left else 0


def _line(finding: Finding) -> str:
    """The text alone may be longer than a terminal is wide, so findings are no table."""
    import sys

    from datamanager.cli.terminal import Paint
    from datamanager.tables import printable

    paint = Paint(sys.stdout)
    severity = paint.red("error") if finding.severity == "error" else paint.bold(finding.severity)
    row = "" if finding.row is None else f", row {finding.row}"
    place = "" if finding.table is None else f" {printable(finding.table)}{row}:"
    return f"{severity}:{place} {printable(finding.text)}" + " (repaired)" * finding.repaired


def _check(options: Namespace) -> int:
    from datamanager import Finding
    from datamanager.cli.output import Listing, fields_of, show, values
    from datamanager.cli.terminal import note

    with note("checking"), opened(options, write=options.repair) as dm:
        found = dm.check(options.quick, repair=options.repair)
    if options.form == "table":
        print("\n".join(map(_line, found)) or "nothing is wrong")
    else:
        kinds = dict.fromkeys(("severity", "table", "text"), "text")
        show(options, Listing(fields_of(Finding, kinds, {}), map(values, found)))
    return _code(found)


def _check_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--quick", action="store_true", help="without the value of every field and the indexes"
    )
    parser.add_argument(
        "--repair", action="store_true", help="first mend what loses nothing when it is mended"
    )
    _add_care(parser)


# ---- room ----


def _vacuum(options: Namespace) -> None:
    from datamanager.cli.output import say
    from datamanager.cli.terminal import meter_of_a_call

    with opened(options, write=True) as dm:
        before, after = dm.vacuum(meter_of_a_call("gave back {done} of {total} pages"))
    path = path_of(options)
    say(
        options,
        {"before": before, "after": after},
        f"{path}: {before:,} bytes before, {after:,} now",
    )


def _storage(options: Namespace) -> None:
    from datamanager.cli.output import Field, Listing, show

    with opened(options) as dm:
        found = dm.get_storage_stats()
    models = found.pop("models")
    fields = [
        Field("model", "text", "model"),
        Field("requests", "count", "requests"),
        Field("runs", "count", "runs"),
        Field("bytes", "count", "bytes"),
    ]
    rows = [[name, *(room[f.name] for f in fields[1:])] for name, room in models.items()]
    text = (
        f"{found['file_bytes']:,} bytes in the file, {found['free_bytes']:,} of them free;"
        f" {found['log_bytes']:,} in the log"
    )
    show(options, Listing(fields, rows, about=found, note=text))


# ---- prune ----


def _asks(options: Namespace) -> bool:
    """Whether what cannot be undone waits for an answer, which needs somebody to give it."""
    import sys

    if options.yes:
        return False
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        hint = " (--dry-run says what would go)" if "dry_run" in options else ""
        raise UsageError(f"--yes is needed where nobody can be asked{hint}")
    return True


def _add_yes(parser: Parser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _agreed(text: str) -> bool:
    """What whoever sits at the terminal answers."""
    import sys

    from datamanager.cli.terminal import Paint

    print(f"{text} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print(Paint(sys.stderr).red("no answer"), file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")


def _before(options: Namespace) -> float:
    """What it says must not be taken for something that removes more."""
    import re
    import time

    from datamanager.cli.moments import moment
    from datamanager.tables import clock
    from datamanager.windows import Zone

    text = options.before
    if found := re.fullmatch(r"([\d.]+) ?m(?: ago)?", text, re.I):
        number = found[1]
        raise UsageError(
            f"--before {text!r} may be minutes or months: write {number}min or {number}mo"
        )
    before = moment(text, options.tz)
    if before > time.time():
        days = f" {text}d for so many days ago, or" if text.isdigit() else ""
        when = clock(before, Zone(options.tz).tz)
        raise UsageError(
            f"--before {text!r} is yet to come ({when}): write{days} 'now' for all there is"
        )
    return before


_STAYS = {
    "hour": "and keep their sums by hour",
    "day": "and keep their sums by day",
    "none": "and all usage and costs of that time with them",
}


def _prune(options: Namespace) -> None:
    from functools import partial

    from datamanager import Pruned
    from datamanager.cli.output import Field, Listing, fields_of, show, values
    from datamanager.cli.terminal import meter_of_a_call
    from datamanager.tables import clock
    from datamanager.windows import Zone

    before = _before(options)
    keep = None if options.keep == "none" else options.keep
    asks = not options.dry_run and _asks(options)
    with opened(options, write=not options.dry_run) as dm:
        prune = partial(dm.prune, before, keep, models=options.models or None, tz=options.tz)
        found = prune(dry_run=True)
        total = found.total
        text = f"{total.requests:,} requests and {total.runs:,} runs"
        when = clock(before, Zone(options.tz).tz)
        if asks and not _agreed(f"Remove {text} of before {when}, {_STAYS[options.keep]}?"):
            raise UsageError("nothing was removed")
        if not options.dry_run:
            meter = meter_of_a_call("removed {done} of {total} requests and runs")
            found = prune(progress=meter)
    fields = [
        Field("model", "text", "model"),
        *fields_of(Pruned, {}, {"requests": "requests", "runs": "runs"})[1:],
    ]
    rows = list(map(values, found))
    about = {"before": before, "keep": keep, "tz": options.tz, "dry_run": options.dry_run}
    if options.form == "table":
        rows = [[name or "(the program)", *row] for name, *row in rows]
    show(options, Listing(fields, rows, values(found.total), about))


def _prune_arguments(parser: Parser) -> None:
    add_models(parser)
    parser.add_argument(
        "--before",
        metavar="WHEN",
        required=True,
        help="what is older goes: 90d, 12h; 2026-10-05, 2026-10, 2026-10-05T12:30, today",
    )
    parser.add_argument(
        "--keep",
        choices=tuple(_STAYS),
        default="hour",
        help="of what sums stay, for usage and costs (default: hour); with none these are gone too",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    _add_yes(parser)
    add_zone(parser)
    _add_care(parser)


# ---- rename and delete ----


def _rename(options: Namespace) -> None:
    from datamanager.cli.output import say

    with opened(options, write=True) as dm:
        merges = options.new in dm.get_models() and options.new != options.old
        if merges and not options.merge:
            raise UsageError(
                f"there is a model {options.new!r}: --merge puts the records of both together"
            )
        dm.rename_model(options.old, options.new, merge=options.merge)
    text = f"{options.old} is {options.new} now" + (", with the records of both" if merges else "")
    say(options, {"model": options.new, "merged": merges}, text)


def _rename_arguments(parser: Parser) -> None:
    parser.add_argument("old", metavar="MODEL", help="what it is called")
    parser.add_argument("new", metavar="NAME", help="what it shall be called")
    parser.add_argument("--merge", action="store_true", help="also into a model that there is")
    _add_care(parser)


def _delete(options: Namespace) -> None:
    from datamanager.cli.output import say

    asks = _asks(options)
    with opened(options, write=True) as dm:
        requests = dm.usage([options.model]).total.requests
        what = f"{printable(options.model)}, its prices and its {requests:,} requests"
        if asks and not _agreed(f"Delete {what}, pruned ones too?"):
            raise UsageError("nothing was deleted")
        dm.delete_model_tables(options.model)
    done = {"model": options.model, "requests": requests}
    say(options, done, f"deleted {what}, pruned ones too")


def _delete_arguments(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="what it is called")
    _add_yes(parser)
    _add_care(parser)


COMMANDS = (
    Command("backup", "write the database as it is at one moment to a file", _backup,
            _backup_arguments),
    Command("restore", "put a backup in the place of what the database holds", _restore,
            _restore_arguments),
    Command("check", "say what is wrong in the database", _check, _check_arguments),
    Command("prune", "remove old requests and runs, and keep their sums", _prune, _prune_arguments),
    Command("vacuum", "give back what is free in the file", _vacuum, _add_care),
    Command("storage", "what takes how much room", _storage, _add_care),
    Command("rename", "give a model and its records another name", _rename, _rename_arguments),
    Command("delete", "delete a model and all its records", _delete, _delete_arguments),
)  # fmt: skip
