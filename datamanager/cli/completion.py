"""Shell completion: each shell asks this program what may come next.

``datamanager completion bash`` prints what the shell has to read. It calls ``datamanager
completion words WORD…``, which prints the candidates for the last word, one a line.
"""

from __future__ import annotations

import argparse

from datamanager.cli.command import Command, Parser, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Action, Namespace
    from collections.abc import Iterator, Sequence

_SHELLS = {
    "bash": """\
_datamanager() {
    local cur=${COMP_WORDS[COMP_CWORD]} cword=$COMP_CWORD words=("${COMP_WORDS[@]}")
    # Bash splits at the colon of a name like llama3:8b; bash-completion can undo that.
    declare -F _get_comp_words_by_ref >/dev/null && _get_comp_words_by_ref -n =: cur words cword
    mapfile -t COMPREPLY < <(
        "${words[0]}" completion words -- "${words[@]:1:cword}" 2>/dev/null |
            while IFS= read -r word; do printf '%q\\n' "$word"; done
    )
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
    return 0
}
complete -o default -F _datamanager datamanager
""",
    "zsh": """\
#compdef datamanager
_datamanager() {
    local -a found
    found=("${(@f)$("$words[1]" completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n $found ]]; then compadd -a found; else _files; fi
}
compdef _datamanager datamanager
""",
    "fish": """\
function __datamanager_words
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] completion words -- $words[2..-1] 2>/dev/null)
    if set -q found[1]
        printf '%s\\n' $found
    else
        __fish_complete_path $words[-1]
    end
end
complete -c datamanager -f -a '(__datamanager_words)'
""",
}


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _named_or_part(parser: argparse.ArgumentParser, word: str) -> argparse.ArgumentParser:
    """The command that the word names in a group; else what the group is where none is named."""
    choices = _choices(parser)
    return choices.get(word) or choices.get(getattr(parser, "part", ""), parser)


def _value_of(parser: argparse.ArgumentParser, word: str) -> Action | None:
    """The option that the word names, if a value follows it."""
    action = parser._option_string_actions.get(word)
    return action if action is not None and action.nargs != 0 else None


def _models(words: Sequence[str]) -> Iterator[str]:
    """The models of the database that the words name; none where it cannot be read."""
    at = words.index("--db") + 1 if "--db" in words else len(words)
    options = argparse.Namespace(db=words[at] if at < len(words) else None, wait=0)
    try:
        with opened(options) as dm:
            yield from (name for name in dm.get_models() if name.isprintable())
    except Exception:  # a shell that completes has no place for an error
        return


def candidates(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """What the last of the words may become."""
    *before, last = words or [""]
    for word in before:
        parser = _named_or_part(parser, word)
    option = _value_of(parser, before[-1]) if before else None
    if option is not None:
        found: Iterator[str] = map(str, option.choices or ())
    elif last.startswith("-"):
        found = iter(_named_or_part(parser, last)._option_string_actions)
    elif _choices(parser):
        found = iter(_choices(parser))
    elif any(a.metavar == "MODEL" and not a.option_strings for a in parser._actions):
        found = _models(before)
    else:
        found = iter(())
    return [word for word in found if word.startswith(last)]


def _words(options: Namespace) -> None:
    from datamanager.cli import _parser

    for word in candidates(_parser(), options.words):
        print(word)


def _words_arguments(parser: Parser) -> None:
    parser.add_argument("words", metavar="WORD", nargs="*")


def _script(options: Namespace) -> None:
    print(_SHELLS[options.command], end="")


COMMANDS = (
    Command(
        "completion",
        "what a shell reads to complete commands, options and models",
        parts=(
            *(Command(shell, f"for {shell}", _script) for shell in _SHELLS),
            Command("words", "what the last of some words may become", _words, _words_arguments),
        ),
    ),
)
