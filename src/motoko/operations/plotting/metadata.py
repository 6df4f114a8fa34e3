"""The metadata of plot files: how a file was drawn, as data that draws it again.

PNG files have it in text chunks, SVG files in ``<metadata>``, HTML files in a ``<meta>``. Files
that are read are untrusted: a bounded part is parsed as JSON and validated.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import zlib
from dataclasses import dataclass
from html import escape, unescape
from typing import TYPE_CHECKING, Any, Final

from motoko.errors import PlotError
from motoko.operations.plotting.spec import MAX_TEXT, PlotSpec
from motoko.printable import printable
from motoko.worker.regular_files import open_regular

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import BinaryIO

FORMATS: Final = ("png", "svg", "html")
VERSION: Final = 1  # of the record
CHUNK: Final = "motoko-plot"  # the key of the record in PNG and HTML files
MAX_RECORD: Final = 512 * 2**10  # bytes
MAX_HEAD: Final = 2 * 2**20  # bytes of a text file that may hold the record
MAX_CHUNKS: Final = 100_000  # of a PNG file
MAX_WORDS: Final = 1000

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_HTML_RECORD: Final = re.compile(rb'<meta name="motoko-plot" content="([^"<>]*)">')
_SVG_RECORD: Final = re.compile(rb"<dc:description>\s*([^<>]*?)\s*</dc:description>")
_NO_XML: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_NO_BYTE: Final = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates of no undecodable byte


@dataclass(frozen=True, slots=True)
class PlotRecord:
    """How a file was drawn. ``command``: its arguments, the program first.

    ``transaction`` is the id of the newest commit that was read, in hexadecimal, ``committed`` its
    time in ISO format. ``versions``: those of Motoko and matplotlib. ``scripts``: the digest of the
    study's scripts. ``data``: the digest of the values that were read.
    """

    command: tuple[str, ...]
    transaction: str
    committed: str
    versions: tuple[tuple[str, str], ...]
    scripts: str
    data: str
    spec: PlotSpec

    def to_text(self) -> str:
        """Return the record as JSON in ASCII."""
        record = {
            "version": VERSION,
            "command": list(self.command),
            "transaction": self.transaction,
            "committed": self.committed,
            "code": dict(self.versions),
            "scripts": self.scripts,
            "data": self.data,
            "spec": self.spec.to_json(),
        }
        return json.dumps(record, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f")

    @classmethod
    def from_text(cls, text: str) -> PlotRecord:
        """Return the record in untrusted text; PlotError if it is invalid."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise PlotError("its metadata are damaged") from None
        if not isinstance(data, dict):
            raise PlotError("its metadata are damaged")
        if data.get("version") != VERSION:
            raise PlotError(
                f"its metadata have format {data.get('version')!r:.50}, not {VERSION}",
                hint="Another version of Motoko wrote it.",
            )
        code = data.get("code")
        if not isinstance(code, dict) or len(code) > 10:
            raise PlotError("its metadata have an invalid entry 'code'")
        return cls(
            _words(data.get("command")),
            _text(data, "transaction", r"[0-9a-f]{16}"),
            _text(data, "committed", r"[0-9T:.+Z-]{10,40}"),
            tuple((_word(name), _word(value)) for name, value in code.items()),
            _text(data, "scripts", r"[0-9a-f]{0,64}"),
            _text(data, "data", r"[0-9a-f]{1,64}"),
            PlotSpec.from_json(data.get("spec")),
        )

    def software(self) -> str:
        """Return the names and versions of the programs that drew the file."""
        return ", ".join(f"{name} {version}" for name, version in self.versions)

    def read_at(self) -> str:
        """Return the transaction and its time."""
        return f"{self.transaction} ({self.committed})"

    def for_png(self) -> dict[str, str | None]:
        """Return the metadata of a PNG file."""
        return {
            "Title": visible(self.spec.title()),
            "Software": visible(self.software()),
            "Command": shell_text(self.command),
            "Transaction": self.read_at(),
            "Scripts": self.scripts,
            CHUNK: self.to_text(),
        }

    def for_svg(self) -> dict[str, str | None]:
        """Return the metadata of an SVG file, as Dublin Core."""
        return {
            "Title": visible(self.spec.title()),
            "Creator": visible(self.software()),
            "Source": shell_text(self.command),
            "Identifier": f"transaction {self.read_at()}, scripts {self.scripts}",
            "Description": self.to_text(),
            "Date": None,
        }

    def for_html(self) -> str:
        """Return the element of an HTML file."""
        return f'<meta name="{CHUNK}" content="{escape(self.to_text())}">'


def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_WORDS:
        raise PlotError("its metadata have an invalid entry 'command'")
    return tuple(map(_word, value))


def _word(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise PlotError("its metadata have an invalid text")
    return value


def _text(data: dict[str, Any], name: str, pattern: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise PlotError(f"its metadata have an invalid entry {name!r}")
    return value


def visible(text: str) -> str:
    """Return text without characters that terminals or XML do not allow."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", printable(text))


def shell_text(words: Sequence[str]) -> str:
    """Return the words of a command as a shell reads them, in printable characters."""
    return " ".join(shlex.quote(w) if w.isprintable() else _escaped(w) for w in words)


def _escaped(word: str) -> str:
    def escape_byte(byte: int) -> str:
        plain = 0x20 <= byte < 0x7F and byte not in b"'\\"
        return chr(byte) if plain else f"\\x{byte:02x}"

    data = _NO_BYTE.sub("?", word).encode(errors="surrogateescape")
    return f"$'{''.join(map(escape_byte, data))}'"


def format_of(path: Path) -> str:
    """Return the format that a file's name ends with; PlotError for another."""
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise PlotError(
            f"{path} does not end with the name of a format",
            hint=f"Formats: {', '.join(f'.{name}' for name in FORMATS)}.",
        )
    return suffix


def read_record(path: Path) -> PlotRecord:
    """Return the record in a plot file; PlotError for a file without a valid one."""
    try:
        with open_regular(path) as file:
            text = _record_text(file)
    except OSError as error:
        raise PlotError(f"{path} cannot be read: {error.strerror}") from error
    if text is None:
        raise PlotError(
            f"{path} has no metadata of `motoko plot`",
            hint="Only PNG, SVG and HTML files that it wrote can be drawn again. Some programs "
            "remove metadata.",
        )
    if len(text) > MAX_RECORD:
        raise PlotError(f"{path}: its metadata are too large")
    try:
        return PlotRecord.from_text(text)
    except PlotError as error:
        raise PlotError(f"{path}: {error.message}", hint=error.hint) from None


def _record_text(file: BinaryIO) -> str | None:
    start = file.read(len(_PNG))
    if start == _PNG:
        return _png_record(file)
    head = start + file.read(MAX_HEAD)
    found = _HTML_RECORD.search(head) or _SVG_RECORD.search(head)
    return None if found is None else unescape(found[1].decode("ascii", "replace"))


def _png_record(file: BinaryIO) -> str | None:
    """Return the text of the chunk CHUNK, None without a valid one."""
    for _ in range(MAX_CHUNKS):
        header = file.read(8)
        size, kind = int.from_bytes(header[:4], "big"), header[4:]
        if len(header) < 8 or kind == b"IEND":
            return None
        if kind != b"tEXt" or size > MAX_RECORD:
            file.seek(size + 4, os.SEEK_CUR)
            continue
        content, checksum = file.read(size), file.read(4)
        key, _, text = content.partition(b"\0")
        if key == CHUNK.encode():
            valid = zlib.crc32(kind + content) == int.from_bytes(checksum, "big")
            return text.decode("latin-1") if valid and len(checksum) == 4 else None
    return None
