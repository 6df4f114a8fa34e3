"""Is Motoko installed completely, and in one version?"""

from __future__ import annotations

import base64
import hashlib
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import motoko
from motoko.operations.doctor.findings import Finding, fault, ok, warning
from motoko.printable import join_names
from motoko.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBJECT: Final = "installation"
NAME: Final = "motoko"
MISSING: Final = "package-missing"  # the code of a finding without which nothing works
PACKAGE: Final = Path(motoko.__file__).parent
REINSTALL: Final = "Install it again: `pip install --force-reinstall --no-deps motoko`."
# Extras for users; the others are for developers and for `all` of them.
EXTRAS: Final = ("crate", "pandas", "parquet", "plot", "sample", "sql", "web")
_REQUIREMENT: Final = re.compile(
    r"(?P<name>[\w.-]+)(?:\[(?P<extras>[^]]*)\])?(?P<version>[^;]*)(?:;(?P<marker>.*))?"
)
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_MINIMUM: Final = re.compile(r">=\s*([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A required package: its lowest version, and the installed one, None without one.

    ``extra``: the extra that requires it, "" for a basic requirement.
    """

    name: str
    minimum: str
    installed: str | None
    extra: str = ""

    @property
    def is_met(self) -> bool:
        """Whether it is installed in a sufficient version."""
        return self.installed is not None and _number(self.installed) >= _number(self.minimum)

    def __str__(self) -> str:
        found = "is not installed" if self.installed is None else f"{self.installed} is installed"
        return f"{self.name} >= {self.minimum or 0} is required, {found}"


@dataclass(frozen=True, slots=True)
class Installation:
    """The running Motoko and its installation.

    ``installed``: the version of the installed package, None if it is not installed. ``places``:
    the directories with an installed Motoko. ``changed``: files that differ from the installed
    ones or are missing. ``foreign``: modules that the installed package does not contain.
    """

    version: str
    package: str
    python: str
    installed: str | None = None
    places: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    requirements: tuple[Requirement, ...] = ()


def examine_installation() -> list[Finding]:
    """Examine the running Motoko."""
    return judge(read())


def read(package: Path = PACKAGE) -> Installation:
    """Read the installation of the running Motoko."""
    found = [one for one in metadata.distributions(name=NAME) if one.metadata is not None]
    running = Installation(__version__, str(package), platform.python_version())
    if not found:
        return running
    distribution = found[0]
    changed, foreign = _compare(distribution, package)
    return Installation(
        running.version,
        running.package,
        running.python,
        distribution.version,
        tuple(dict.fromkeys(str(Path(str(one.locate_file(""))).resolve()) for one in found)),
        changed,
        foreign,
        tuple(_requirements(distribution)),
    )


def judge(found: Installation) -> list[Finding]:
    """Return the findings about an installation."""
    findings = [*_judge_versions(found), *_judge_files(found), *_judge_requirements(found)]
    about = f"Motoko {found.version} in {found.package}, Python {found.python}"
    return [*findings, *([] if findings else [ok("installation", SUBJECT, about)]), _extras(found)]


def _judge_versions(found: Installation) -> Iterator[Finding]:
    if len(found.places) > 1:
        yield warning(
            "several-installations",
            SUBJECT,
            f"Motoko is installed in {join_names(found.places)}",
            "Uninstall the copies that you do not need.",
        )
    if found.installed not in (None, found.version):
        yield fault(
            "mixed-versions",
            SUBJECT,
            f"the code in {found.package} is Motoko {found.version}, the installed package is "
            f"{found.installed}",
            "Unset PYTHONPATH, or install that code: `pip install --force-reinstall --no-deps`.",
        )


def _judge_files(found: Installation) -> Iterator[Finding]:
    if found.changed:
        yield fault(
            "files-changed",
            SUBJECT,
            f"files differ from the installed ones: {join_names(found.changed)}",
            REINSTALL,
        )
    if found.foreign:
        yield fault(
            "files-foreign",
            SUBJECT,
            f"files of another version are mixed in: {join_names(found.foreign)}",
            REINSTALL,
        )


def _judge_requirements(found: Installation) -> Iterator[Finding]:
    for one in found.requirements:
        if one.is_met or (one.extra and one.installed is None):
            continue
        name = f"{NAME}[{one.extra}]" if one.extra else NAME
        step = f"Install it: `pip install --upgrade '{name}'`."
        if one.installed is None:
            yield fault(MISSING, SUBJECT, str(one), step)
        else:
            yield warning("package-old", SUBJECT, str(one), step)


def _extras(found: Installation) -> Finding:
    required = {one.extra: True for one in found.requirements if one.extra}
    for one in found.requirements:
        if one.extra and not one.is_met:
            required[one.extra] = False
    present = [extra for extra, complete in required.items() if complete]
    absent = [extra for extra, complete in required.items() if not complete]
    message = join_names(present) if present else "none is installed"
    if absent:
        message += f"; not installed: {join_names(absent)} (`pip install 'motoko[{absent[0]}]'`)"
    return ok("extras", "extras", message)


def _requirements(distribution: metadata.Distribution) -> Iterator[Requirement]:
    for text in distribution.requires or ():
        match = _REQUIREMENT.match(text)
        if match is None or match["name"].lower() == NAME:
            continue
        marker = _EXTRA.search(match["marker"] or "")
        extra = "" if marker is None else marker[1]
        if extra and extra not in EXTRAS:
            continue
        minimum = _MINIMUM.search(match["version"])
        try:
            installed = metadata.version(match["name"])
        except metadata.PackageNotFoundError:
            installed = None
        yield Requirement(match["name"], "" if minimum is None else minimum[1], installed, extra)


def _compare(
    distribution: metadata.Distribution, package: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return changed and foreign files of ``package``, if the distribution contains it."""
    inside = [one for one in distribution.files or () if one.parts[0] == NAME]
    root = Path(str(distribution.locate_file(NAME)))
    if not inside or root.resolve() != package.resolve():
        return (), ()  # an editable installation, or code on PYTHONPATH
    changed = tuple(str(one) for one in inside if one.hash is not None and _differs(one))
    known = {str(one) for one in inside}
    files = (path.relative_to(root.parent).as_posix() for path in sorted(root.rglob("*.py")))
    return changed, tuple(name for name in files if name not in known)


def _differs(file: metadata.PackagePath) -> bool:
    try:
        content = Path(str(file.locate())).read_bytes()
        digest = hashlib.new(file.hash.mode, content).digest() if file.hash is not None else b""
    except (OSError, ValueError):
        return True
    expected = "" if file.hash is None else file.hash.value
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != expected


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version.partition("+")[0])[:3])
