"""Safe reading of YAML, with the line of every key and keys as written.

The result is plain data: mappings, lists, text, numbers, booleans, and times (aware, by default in
UTC). Other contents raise ConfigError with file and line.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import yaml

from motoko.errors import ConfigError
from motoko.worker.regular_files import open_regular
from motoko.worker.values import finer_than_microseconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KeyPath: TypeAlias = "tuple[str | int, ...]"

MAX_NODES: Final = 1_000_000
LARGEST: Final = 64 << 20  # bytes of a file
_TAG: Final = "tag:yaml.org,2002:"
_TEXT_TAGS: Final = (_TAG + "str", _TAG + "value")
_SCALAR_TAGS: Final = tuple(_TAG + name for name in ("int", "float", "bool", "null", "timestamp"))


# YAML 1.1 reads 12:30 as 750, 0123 as 83 and 1e-3 as text; people do not. Numbers are defined here;
# text that is a number in YAML 1.1 only stays text.
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+)$")
_FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*|(?=[eE])))(?:[eE][-+]?[0-9]+)?$"
    r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)
_NUMBERS: Final = {_TAG + "int": _INT, _TAG + "float": _FLOAT}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with numbers as people read them."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, list("-+.0123456789"))


@dataclass(frozen=True, slots=True)
class Document:
    """A mapping read from ``file`` (the path as given), and the lines of its parts."""

    file: str
    value: dict[str, Any]
    root: yaml.MappingNode

    def line(self, path: KeyPath = ()) -> int:
        """Return the line (from 1) of the key or item at ``path``, or of its nearest parent."""
        node: yaml.Node = self.root
        line = node.start_mark.line
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            line, node = found
        return line + 1

    def error(self, message: str, path: KeyPath = (), *, hint: str | None = None) -> ConfigError:
        """Return a ConfigError about the value at ``path``."""
        return ConfigError(message, file=self.file, line=self.line(path), hint=hint)


def read_document(file: Path) -> Document:
    """Read the YAML mapping in ``file``, or raise ConfigError. OSError passes through."""
    name = str(file)
    with open_regular(file) as opened:
        data = opened.read(LARGEST + 1) or b""  # None: nothing to read yet
    if len(data) > LARGEST:
        raise ConfigError(f"the file is larger than {LARGEST >> 20} MiB", file=name, line=1)
    text = _decode(data, name)
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise ConfigError("the file is empty", file=name, line=1)
            if not isinstance(root, yaml.MappingNode):
                raise ConfigError(
                    "the file must hold keys and values (`key: value`)",
                    file=name,
                    line=root.start_mark.line + 1,
                )
            value = _Builder(loader, name).build(root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _unparsable(error, text, name) from None
    except RecursionError:
        raise ConfigError("the file is nested too deeply", file=name, line=1) from None
    return Document(name, value, root)


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            "the file is not UTF-8 text", file=name, line=line, hint="Save it as UTF-8."
        ) from None


def _unparsable(error: yaml.YAMLError, text: str, name: str) -> ConfigError:
    line, problem, hint = 1, "syntax error", None
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        problem = error.problem or error.context or problem
        if "'\\t'" in problem:
            hint = "Indent with spaces, not with tabs."
    elif isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character {text[error.position]!r} is not allowed"
    return ConfigError(f"cannot be read as YAML: {problem}", file=name, line=line, hint=hint)


def _pairs(node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Yield keys and values, first those merged with ``<<``."""
    for key, value in node.value:
        if key.tag == _TAG + "merge":
            for other in reversed(_merged(value)):  # the first one wins
                yield from _pairs(other)
    for key, value in node.value:
        if key.tag != _TAG + "merge":
            yield key, value


def _merged(value: yaml.Node) -> list[Any]:
    return list(value.value) if isinstance(value, yaml.SequenceNode) else [value]


def _child(node: yaml.Node, step: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        # The last one: own values follow merged ones.
        for key, value in reversed(list(_pairs(node))):
            if key.value == step:
                return key.start_mark.line, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        item: yaml.Node = node.value[step]
        return item.start_mark.line, item
    return None


class _Builder:
    """Converts nodes to plain data; other nodes are errors."""

    def __init__(self, loader: _Loader, file: str) -> None:
        self._loader = loader
        self._file = file
        self._open: set[int] = set()
        self._built = 0

    def build(self, node: yaml.Node) -> Any:
        self._built += 1
        if self._built > MAX_NODES:
            raise self._error(node, f"the file holds more than {MAX_NODES} values")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            raise self._error(node, "an alias refers to a node that contains it")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                self._check_tag(node, _TAG + "map")
                self._check_keys(node)
                return {key.value: self.build(value) for key, value in _pairs(node)}
            self._check_tag(node, _TAG + "seq")
            return [self.build(item) for item in node.value]
        finally:
            self._open.discard(id(node))

    def _check_keys(self, node: yaml.MappingNode) -> None:
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key must be text")
            line = key.start_mark.line + 1
            if key.tag == _TAG + "merge":
                self._check_merged(value)
            elif key.value in first:
                raise self._error(
                    key,
                    f"the key {key.value!r} is given twice",
                    f"It is also on line {first[key.value]}; keep one of the two.",
                )
            first[key.value] = line

    def _check_merged(self, value: yaml.Node) -> None:
        for other in _merged(value):
            if not isinstance(other, yaml.MappingNode):
                raise self._error(other, "only mappings can be merged with `<<`")
            self.build(other)  # finds a mapping that is merged into itself

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag in _TEXT_TAGS:
            return node.value
        self._check_tag(node, *_SCALAR_TAGS)
        kind = node.tag.removeprefix(_TAG)
        try:
            if node.tag in _NUMBERS and not _NUMBERS[node.tag].match(node.value):
                raise ValueError(node.value)
            value = self._loader.construct_object(node)
        except (ValueError, LookupError, AttributeError):  # raised by PyYAML's constructors
            raise self._error(
                node, f"{node.value!r} is not of type {kind}", "If it is text, put it in quotes."
            ) from None
        if value in (math.inf, -math.inf) and "inf" not in node.value.lower():
            raise self._error(
                node,
                f"{node.value!r} is too large for a number",
                "If it is text, put it in quotes.",
            )
        if isinstance(value, datetime):
            if finer_than_microseconds(node.value):  # PyYAML truncates
                raise self._error(
                    node,
                    f"{node.value!r} is not a time in whole microseconds",
                    "Round it; if it is text, put it in quotes.",
                )
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        if isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        return value

    def _check_tag(self, node: yaml.Node, *allowed: str) -> None:
        if node.tag not in allowed:
            tag = node.tag.replace(_TAG, "!!", 1)
            raise self._error(
                node, f"the tag {tag} is not allowed", "Remove the tag: only plain values are read."
            )

    def _error(self, node: yaml.Node, message: str, hint: str | None = None) -> ConfigError:
        return ConfigError(message, file=self._file, line=node.start_mark.line + 1, hint=hint)
