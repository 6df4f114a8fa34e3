"""The metadata of plot files, and files that others changed or forged."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from motoko.errors import PlotError
from motoko.operations.plotting.drawing import Drawing, Points
from motoko.operations.plotting.metadata import (
    CHUNK,
    MAX_RECORD,
    PlotRecord,
    read_record,
    shell_text,
)
from motoko.operations.plotting.page import page
from motoko.operations.plotting.preparation import prepare
from motoko.operations.plotting.rendering import library_version, render
from motoko.operations.plotting.spec import PlotSpec

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

ODD = "$x$ <b>&amp;\"'\\ β\U0001f600 ]]> -- --> \x1b[2J\x00\ufffe\ud800\n\r%s{x}"
SPEC = PlotSpec("s", "scatter", ("x", "y"), where=("x > 0",), size=(2.0, 1.5))
RECORD = PlotRecord(
    ("motoko", "plot", "s", "x", "y"), "0123456789abcdef", "2026-01-02T03:04:05.000+00:00",
    (("Motoko", "1"), ("Matplotlib", "3")), "ab", "cd", SPEC,
)  # fmt: skip


def content(record: PlotRecord, kind: str, shown: Drawing) -> bytes:
    if kind == "png":
        return render(shown, kind, record.for_png())
    svg = render(shown, "svg", record.for_svg())
    return svg if kind == "svg" else page(shown, record, svg)


@pytest.mark.parametrize("kind", ["png", "svg", "html"])
def test_metadata_survive_odd_characters(tmp_path: Path, kind: str) -> None:
    spec = replace(SPEC, columns=(ODD, "y"), color=f"c{ODD}", run_name=ODD, where=(ODD, "x > 0"))
    record = replace(RECORD, command=("motoko", "", ODD, "-x y", "\udcff"), spec=spec)
    drawing = prepare(spec, {ODD: [1.0, 2.0], "y": [ODD, "b"], f"c{ODD}": [ODD, "$"]})
    file = tmp_path / f"a.{kind}"
    file.write_bytes(content(record, kind, drawing))
    assert read_record(file) == record
    if kind != "png":
        text = file.read_text(encoding="utf-8")
        assert "\x1b" not in text
        ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])


@pytest.mark.parametrize("word", ["", "x > 0", "it's", "a\nb", "\x1b[1m", "é\udcff", "β", "$HOME"])
def test_the_command_is_what_a_shell_reads(word: str) -> None:
    text = shell_text(["x", word])
    assert text.isprintable()
    program = "import os, sys; sys.stdout.buffer.write(os.fsencode(sys.argv[1]))"
    words = [
        "bash",
        "-c",
        f'set -- {text}; exec {shlex.quote(sys.executable)} -c "$0" "$2"',
        program,
    ]
    assert subprocess.run(words, capture_output=True, check=True).stdout == os.fsencode(word)


# -- files that others changed -----------------------------------------------------------------


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += len(body).to_bytes(4, "big") + kind + body
        data += zlib.crc32(kind + body).to_bytes(4, "big")
    return data


def record_chunk(text: str) -> tuple[bytes, bytes]:
    return b"tEXt", f"{CHUNK}\0{text}".encode("latin-1")


VALID = RECORD.to_text()
NO_RECORD = "has no metadata of `motoko plot`"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt" + CHUNK.encode(),
        png((b"IEND", b""), record_chunk(VALID)),
        png((b"tEXt", b"Comment\0x"), (b"IEND", b"")),
        png(record_chunk(VALID))[:-1] + b"?",
        png(record_chunk(VALID))[:-3],
        png((b"tEXt", CHUNK.encode() + b"\0" + b" " * MAX_RECORD)),
        b"<svg/>",
        b"<html></html>",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><svg><metadata><dc:description>&a;",
        b" " * (3 * 2**20) + f"<dc:description>{VALID}</dc:description>".encode(),
        os.urandom(1000),
    ],
)  # fmt: skip
def test_files_without_metadata_are_errors(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(data)
    with pytest.raises(PlotError, match=NO_RECORD):
        read_record(file)


def changed(**entries: Any) -> str:
    return json.dumps({**json.loads(VALID), **entries})


def changed_spec(**entries: Any) -> str:
    return changed(spec={**json.loads(VALID)["spec"], **entries})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        "9" * 10_000,
        changed(version=2),
        changed(version=None),
        changed(command="motoko plot"),
        changed(command=[1]),
        changed(command=["x"] * 2000),
        changed(command=["x" * 3000]),
        changed(transaction="../../etc/passwd"),
        changed(transaction="0123456789abcdeg"),
        changed(transaction=1),
        changed(committed="<script>"),
        changed(code=[]),
        changed(code={"a": {}}),
        changed(scripts="\x1b[2J"),
        changed(data=""),
        changed(spec=None),
        changed(spec={}),
        changed_spec(study=None),
        changed_spec(study=""),
        changed_spec(kind="__import__('os')"),
        changed_spec(columns="xy"),
        changed_spec(columns=["x"]),
        changed_spec(columns=["x", None]),
        changed_spec(columns=["x"] * 100),
        changed_spec(columns=["x", "y" * 3000]),
        changed_spec(where=[["x"]]),
        changed_spec(logx=1),
        changed_spec(size=[1e9, 1]),
        changed_spec(size=[float("nan"), 1]),
        changed_spec(size=["2", "2"]),
        changed_spec(size=[10**400, 2]),
        changed_spec(output="/etc/passwd"),
    ],
)
def test_invalid_metadata_are_errors_that_name_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png(record_chunk(text)))
    with pytest.raises(PlotError, match=r"a\.png: "):
        read_record(file)


def test_the_unchanged_record_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(png((b"IHDR", b"x"), record_chunk(VALID)))
    assert read_record(file) == RECORD


def test_other_kinds_of_files_are_errors(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    for name in ("fifo.png", "missing.png", "."):
        with pytest.raises(PlotError, match="cannot be read"):
            read_record(tmp_path / name)


def test_a_missing_matplotlib_is_an_error_with_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotError, match="plot needs matplotlib, which is not installed") as raised:
        library_version()
    assert raised.value.hint == "pip install 'motoko[plot]'"


def test_a_matplotlib_that_cannot_be_imported_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ValueError('backend: nosuch')")
    program = "from motoko.operations.plotting.rendering import library_version; library_version()"
    found = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env=found,
        capture_output=True,
        text=True,
    )
    assert "PlotError: matplotlib cannot be imported: backend: nosuch" in done.stderr


def test_the_style_of_the_user_has_no_effect() -> None:
    import matplotlib as mpl

    drawing = Drawing("t", (2.0, 1.5), [Points([1.0, 2.0], [1.0, 2.0])], notes=["n"])
    first = render(drawing, "svg", {"Date": None})
    with mpl.rc_context({"font.size": 3, "axes.grid": False, "svg.fonttype": "path"}):
        assert render(drawing, "svg", {"Date": None}) == first
        assert mpl.rcParams["font.size"] == 3
