"""Parsing and checking of the options that users give for sbatch."""

from __future__ import annotations

import re
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from motoko.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Options of sbatch that take no value as a separate word.
FLAGS: Final = frozenset({
    "contiguous", "exclusive", "get-user-env", "help", "hold", "ignore-pbs", "nice", "no-kill",
    "no-requeue", "overcommit", "oversubscribe", "parsable", "propagate", "quiet", "reboot",
    "requeue", "spread-job", "test-only", "usage", "use-min-nodes", "verbose", "version", "wait",
})  # fmt: skip
SHORT_FLAGS: Final = frozenset("hHkOQsvVW")
# Long options of sbatch(1) up to 24.05. Other options are valid: later versions and a site's
# plugins add some.
KNOWN: Final = frozenset({
    "account", "acctg-freq", "array", "batch", "bb", "bbf", "begin", "chdir", "cluster-constraint",
    "clusters", "comment", "constraint", "container", "container-id", "contiguous", "core-spec",
    "cores-per-socket", "cpu-freq", "cpus-per-gpu", "cpus-per-task", "deadline", "delay-boot",
    "dependency", "distribution", "error", "exclude", "exclusive", "export", "export-file", "extra",
    "extra-node-info", "get-user-env", "gid", "gpu-bind", "gpu-freq", "gpus", "gpus-per-node",
    "gpus-per-socket", "gpus-per-task", "gres", "gres-flags", "help", "hint", "hold", "ignore-pbs",
    "input", "job-name", "kill-on-invalid-dep", "licenses", "mail-type", "mail-user", "mcs-label",
    "mem", "mem-bind", "mem-per-cpu", "mem-per-gpu", "mincpus", "network", "nice", "no-kill",
    "no-requeue", "nodefile", "nodelist", "nodes", "ntasks", "ntasks-per-core", "ntasks-per-gpu",
    "ntasks-per-node", "ntasks-per-socket", "oom-kill-step", "open-mode", "output", "overcommit",
    "oversubscribe", "parsable", "partition", "power", "prefer", "priority", "profile", "propagate",
    "qos", "quiet", "reboot", "requeue", "reservation", "resv-ports", "segment", "signal",
    "sockets-per-node", "spread-job", "stepmgr", "switches", "test-only", "thread-spec",
    "threads-per-core", "time", "time-min", "tmp", "tres-bind", "tres-per-task", "uid", "usage",
    "use-min-nodes", "verbose", "version", "wait", "wait-all-nodes", "wckey", "wrap",
})  # fmt: skip
MISSPELT: Final = 0.85  # likeness of a misspelt option to the known one
# Options that change a submission in ways that the launcher cannot handle.
REFUSED: Final = MappingProxyType(
    {
        "array": "Motoko makes the arrays",
        "comment": "it carries the attempt's token",
        "parsable": "Motoko sets it",
        "wrap": "sbatch executes the run's own script",
        "wait": "the launcher polls the queue",
        "clusters": "the launcher polls only its own cluster",
        "test-only": "it submits nothing",
        "help": "it submits nothing",
        "usage": "it submits nothing",
        "version": "it submits nothing",
    }
)
_UNRECOGNIZED: Final = re.compile(r"unrecognized option '--([^'=]+)")
_LONG: Final = MappingProxyType({"a": "array", "M": "clusters", "W": "wait", "h": "help",
                                 "V": "version"})  # fmt: skip


def option_arguments(option: str) -> tuple[str, ...]:
    """Return the arguments for one option, given with or without its dashes.

    Valid forms are ``partition=debug``, ``--partition debug``, ``-p debug`` and ``p=debug``.
    Raises SbatchOptionFault for text that is not an option.
    """
    text = option.strip()
    bare = text.lstrip("-")
    # Arguments of programs hold neither NUL nor characters without bytes.
    if not bare or "\0" in option or not _has_bytes(option):
        raise SbatchOptionFault(f"slurm_options: {option!r} is not an option of sbatch")
    dashes = text[: len(text) - len(bare)] or ("-" if len(_name(bare)) == 1 else "--")
    if dashes == "-":
        rest = bare[1:]
        value = rest.lstrip(" \t=")
        return (f"-{bare}",) if value == rest else (f"-{bare[0]}", value)
    name = _name(bare)
    if bare[len(name) : len(name) + 1] in ("", "="):
        return (f"{dashes}{bare}",)
    return (f"{dashes}{name}", bare[len(name) :].strip())


def _has_bytes(text: str) -> bool:
    try:
        return bool(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return False


class SbatchOptionFault(ConfigError):
    """An invalid option for sbatch, at ``index`` in a list."""

    index = 0


def user_arguments(options: Iterable[str]) -> tuple[str, ...]:
    """Return the arguments for options such as ``["-p", "debug"]``, or raise SbatchOptionFault."""
    arguments: list[str] = []
    previous = ""
    for index, option in enumerate(options):
        words: tuple[str, ...] = (option,)
        if previous and _is_value(option, previous):
            previous = ""
        else:
            try:
                words = option_arguments(option)
                _check(option, words)
            except SbatchOptionFault as fault:
                fault.index = index
                raise
            previous = words[0] if option.lstrip().startswith("-") and _takes_value(words) else ""
        arguments += words
    return tuple(arguments)


def first_fault(options: Iterable[str]) -> SbatchOptionFault | None:
    """Return the first detectable fault of a user's options."""
    try:
        user_arguments(options)
    except SbatchOptionFault as fault:
        return fault
    return None


def _check(option: str, words: tuple[str, ...]) -> None:
    what = f"slurm_options: {option!r} cannot be given"
    first, value = words[0], words[1] if len(words) > 1 else ""
    name = _name(first[2:]) if first.startswith("--") else ""
    if why := _refusal(first):
        raise SbatchOptionFault(f"{what}: {why}")
    # sbatch accepts abbreviated names.
    if name and not any(known.startswith(name) for known in KNOWN):
        near = get_close_matches(name, KNOWN, n=1, cutoff=MISSPELT)
        if near:
            hint = f"Did you mean {near[0]!r}?"
            raise SbatchOptionFault(f"{what}: sbatch has no option {name!r}", hint=hint)
    if value.startswith("-") and (why := _refusal(value)):
        raise SbatchOptionFault(f"{what}: {why}")
    flag = name in FLAGS if first.startswith("--") else set(first[1:]) <= SHORT_FLAGS
    if flag and len(words) > 1:  # sbatch would execute a file of that name as the script
        hint = "Give one option in each entry."
        raise SbatchOptionFault(f"{what}: {first} takes no value", hint=hint)


def with_suggestion(refusal: str) -> str:
    """Return sbatch's message about an unknown option with the nearest known one."""
    found = _UNRECOGNIZED.search(refusal)
    near = None if found is None else nearest(found[1], KNOWN)
    return refusal if near is None else f"{refusal}. Did you mean {near!r}?"


def _is_value(word: str, option: str) -> bool:
    # An unknown long option may be a flag: a word that looks like an option is one.
    return not option.startswith("--") or not (word.startswith("-") or "=" in word)


def _takes_value(words: tuple[str, ...]) -> bool:
    if len(words) != 1 or "=" in words[0]:
        return False
    if words[0].startswith("--"):
        return words[0][2:] not in FLAGS
    return len(words[0]) == 2 and words[0][1] not in SHORT_FLAGS


def _refusal(word: str) -> str | None:
    if not word.startswith("--"):
        return next(filter(None, (REFUSED.get(_LONG.get(s, "")) for s in _short(word))), None)
    # sbatch accepts abbreviated names.
    name = _name(word[2:])
    return next((why for full, why in REFUSED.items() if full.startswith(name)), None)


def _short(word: str) -> Iterator[str]:
    """Yield the short options in a word such as ``-Hn4``: flags, and one with a value."""
    for letter in word[1:]:
        yield letter
        if letter not in SHORT_FLAGS:
            return


def _name(bare: str) -> str:
    return re.split(r"[=\s]", bare, maxsplit=1)[0]
