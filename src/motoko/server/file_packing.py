"""Make a packed copy of a database file while its server serves it.

Another process copies what is committed (``pack_process``), in rounds until little is left. The
server copies the rest itself, with commits locked. So commits wait for the last bytes only.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from ZODB.POSException import POSError

from motoko.runtime.daemons import module_command
from motoko.runtime.helper_process import HelperProcess
from motoko.server.pack_process import INDEX, Copied, PackCopy
from motoko.server.safe_file import load_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REST: Final = 2**18  # bytes that may be left for the server
ROUNDS: Final = 12


class PackError(POSError):  # type: ignore[misc]
    """The process that packs failed."""


class FilePack:
    """A copy in progress. ``old``: the bytes of the copy that are older than the pack time."""

    def __init__(self, path: Path, files: tuple[int, int], helper: HelperProcess) -> None:
        self.path = path
        self._target, self._index_descriptor = files
        self._helper = helper
        self._copied = Copied()
        self.old = 0
        self._copy: PackCopy | None = None

    def start(self) -> None:
        """Wait until all that is older than the pack time is copied."""
        self._copied = _parse(self._helper.answer())
        self.old = self._copied.written

    def abandon(self) -> None:
        """Make the calls of another thread raise OSError."""
        self._helper.kill()

    @property
    def is_useful(self) -> bool:
        """Whether the copy is smaller than the file."""
        return self._copied.written < self._copied.read

    @property
    def index_position(self) -> int:
        """Return the size of the copy that the saved index covers."""
        return self._copied.written

    def follow(self, committed: Callable[[], int]) -> None:
        """Copy new commits until few bytes are left, then save and read the index."""
        for _ in range(ROUNDS):
            self._copied = _parse(self._helper.ask(str(committed())))
            if committed() - self._copied.read <= REST:
                break
        _parse(self._helper.ask(INDEX))
        with open(os.dup(self._index_descriptor), "rb") as file:
            file.seek(0)
            _, index = load_index(file)
        self._copy = PackCopy(self.path, self._target, index=index)

    def finish(self, size: int) -> tuple[int, Any]:
        """Copy the rest of ``size`` bytes; no commit may be made meanwhile.

        Return size and index of the copy, which then survives a power cut.
        """
        assert self._copy is not None
        copied = self._copy.copy_new(self._copied.read, size)
        return copied.written, self._copy.index

    def close(self) -> None:
        """Close the files."""
        if self._copy is not None:
            self._copy.close()


@contextmanager
def packing(path: Path, stop: bytes, size: int) -> Iterator[FilePack]:
    """Pack ``size`` bytes of a file to ``PATH.pack``, with an index beside it, in a process.

    Drop states and unreferenced objects that are older than the transaction id ``stop``. Remove the
    new files at the end, unless they were renamed.
    """
    names = [f"{path}.pack", f"{path}.pack.index"]
    with ExitStack() as stack:
        for name in names:
            stack.callback(_remove, name)
        files = [stack.enter_context(open(name, "w+b", buffering=0)) for name in names]
        descriptors = files[0].fileno(), files[1].fileno()
        arguments = [str(path), stop.hex(), str(size), *map(str, descriptors)]
        command = module_command("motoko.server.pack_process", *arguments)
        helper = stack.enter_context(HelperProcess(command, descriptors=descriptors))
        pack = FilePack(path, descriptors, helper)
        stack.callback(pack.close)
        yield pack


def _remove(name: str) -> None:
    with suppress(FileNotFoundError, IsADirectoryError):
        os.unlink(name)


def _parse(answer: str) -> Copied:
    copied = Copied(**json.loads(answer))
    if copied.problem:
        raise PackError(copied.problem)
    return copied
