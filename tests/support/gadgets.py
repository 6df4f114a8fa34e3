"""Pickles that would execute code, and functions that plant them in workflow files.

An executed gadget creates the given directory.
"""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any, Final

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODULE: Final = "planted_module"  # creates the directory when it is imported


def _text(value: str) -> bytes:
    """Return the opcode that pushes a string."""
    content = value.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def _called(module: str, name: str, *arguments: bytes) -> bytes:
    """Return opcodes that call a function with the arguments that these opcodes push."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def _attribute(module: str, name: str, attribute: str) -> bytes:
    return _called("builtins", "getattr", f"c{module}\n{name}\n".encode(), _text(attribute))


# Opcodes that leave one object, given the directory to create.
SHAPES: Final[dict[str, Callable[[str], bytes]]] = {
    "reduce": lambda path: _called("posix", "mkdir", _text(path)),
    "reduce os": lambda path: _called("os", "makedirs", _text(path)),
    "inst": lambda path: b"(" + _text(path) + b"iposix\nmkdir\n",
    "obj": lambda path: b"(cposix\nmkdir\n" + _text(path) + b"o",
    "eval": lambda path: _called("builtins", "eval", _text(f"__import__('os').mkdir({path!r})")),
    "exec": lambda path: _called("builtins", "exec", _text(f"import os; os.mkdir({path!r})")),
    "shell": lambda path: _called("os", "system", _text(f"mkdir '{path}'")),
    "subprocess": lambda path: _called(
        "subprocess", "call", b"](" + _text("mkdir") + _text(path) + b"e"
    ),
    "import": lambda _: f"c{MODULE}\nThing\n".encode(),
    "import and call": lambda _: _called(MODULE, "Thing"),
    "method": lambda path: (
        b"c" + b"pathlib\nPath\n(" + _text(path) + b"tR0" + _called(
            "operator", "methodcaller", _text("mkdir")
        ) + b"(" + _called("pathlib", "Path", _text(path)) + b"tR"
    ),
    "partial": lambda path: (
        _called("functools", "partial", b"cposix\nmkdir\n", _text(path)) + b")R"
    ),
    "map": lambda path: _called(
        "builtins", "list",
        _called("builtins", "map", b"cposix\nmkdir\n", b"](" + _text(path) + b"e"),
    ),
    "getattr": lambda path: (
        _attribute("os", "path", "os") + b"0" + _called("posix", "mkdir", _text(path))
    ),
    "newobj": lambda path: (
        b"c" + b"pathlib\nPath\n)\x81" + b"0" + _called("posix", "mkdir", _text(path))
    ),
    "build": lambda path: (
        b"cpersistent.mapping\nPersistentMapping\n)\x81"
         b"}" + _text("data") + _called("posix", "mkdir", _text(path)) + b"sb"
    ),
}  # fmt: skip


def whole(shape: str, path: Path) -> bytes:
    """Return a gadget as a complete pickle."""
    return b"\x80\x03" + SHAPES[shape](str(path)) + b"."


def _reference(gadget: bytes) -> bytes:
    """Return a state with a reference whose class is a gadget."""
    body: bytes = b"C\x08" + p64(1) + gadget + b"\x86Q"
    return b"\x80\x03}" + _text("data") + b"}" + _text("a") + body + b"ss."


def _weak(gadget: bytes) -> bytes:
    body: bytes = b"](" + _text("w") + b"(" + gadget + b"te" + b"Q"
    return b"\x80\x03}" + _text("data") + b"}" + _text("a") + body + b"ss."


def _state(gadget: bytes) -> bytes:
    return b"\x80\x03}" + _text("data") + b"}" + _text("kind") + gadget + b"ss."


CLASS: Final = b"\x80\x03cpersistent.mapping\nPersistentMapping\n."
NOTHING: Final = b"\x80\x03}" + _text("data") + b"}s."

# A record of one object, given the gadget's opcodes.
RECORDS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "class": lambda gadget: b"\x80\x03" + gadget + b"." + NOTHING,
    "class and arguments": lambda gadget: (
        b"\x80\x03cpersistent.mapping\nPersistentMapping\n(" + gadget + b"t\x86." + NOTHING
    ),
    "class by name": lambda _: (
        b"\x80\x03" + _text(MODULE) + _text("Thing") + b"\x86N\x86." + NOTHING
    ),
    "state": lambda gadget: CLASS + _state(gadget),
    "whole state": lambda gadget: CLASS + b"\x80\x03" + gadget + b".",
    "reference": lambda gadget: CLASS + _reference(gadget),
    "weak reference": lambda gadget: CLASS + _weak(gadget),
}


def plant_record(file: Path, oid: bytes, record: bytes) -> None:
    """Write a record as the current state of an object."""
    storage = FileStorage(str(file))
    try:
        _, serial = storage.load(oid)
        meta = TransactionMetaData()
        storage.tpc_begin(meta)
        storage.store(oid, serial, record, "", meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)
    finally:
        storage.close()
        file.with_name(f"{file.name}.index").unlink(missing_ok=True)


def plant_extension(file: Path, gadget: bytes) -> None:
    """Rewrite the current state of the root with a gadget as extension."""
    storage = FileStorage(str(file))
    try:
        data, serial = storage.load(z64)
        meta = TransactionMetaData(extension=gadget)
        storage.tpc_begin(meta)
        storage.store(z64, serial, data, "", meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)
    finally:
        storage.close()
        file.with_name(f"{file.name}.index").unlink(missing_ok=True)


def run(data: bytes) -> Any:
    """Unpickle without protection."""
    return pickle.loads(data)
