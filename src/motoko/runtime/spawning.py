"""Start processes in sessions of their own, without holding up other threads.

``os.posix_spawn`` keeps Python's lock until the new process has loaded its program: on busy
processors for milliseconds. On Linux the C function is therefore called directly.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

# Of spawn.h in glibc and musl, whose types are smaller than OPAQUE_BYTES.
SETSIGDEF: Final = 0x04
SETSIGMASK: Final = 0x08
SETSID: Final = 0x80
OPAQUE_BYTES: Final = 1024


class SessionSpawner:
    """Starts processes with /dev/null as input, no blocked signals, and default actions.

    ``signals``: those whose default action is restored.
    """

    def __init__(self, signals: Collection[int]) -> None:
        self._signals = signals
        self._native = _NativeSpawn(signals) if sys.platform == "linux" else None

    def spawn(
        self,
        path: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        streams: tuple[int, int] | None = None,
    ) -> int:
        """Start the program ``path``; return its pid. OSError, or ValueError for a null byte.

        ``streams``: the descriptors of its input and output, both above 2.
        """
        if self._native is not None:
            return self._native.spawn(path, arguments, environment, streams)
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]]
        actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        if streams is not None:
            actions = [(os.POSIX_SPAWN_DUP2, own, new) for new, own in enumerate(streams)]
        return os.posix_spawn(
            path,
            list(arguments),
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=self._signals,
        )


class _NativeSpawn:
    """The C function ``posix_spawn`` with fixed attributes; ctypes releases Python's lock."""

    def __init__(self, signals: Collection[int]) -> None:
        libc = ctypes.CDLL(None)
        self._spawn = libc.posix_spawn
        self._attributes, self._actions, mask, defaults = (
            ctypes.create_string_buffer(OPAQUE_BYTES) for _ in range(4)
        )
        libc.sigemptyset(mask)
        libc.sigemptyset(defaults)
        for number in signals:
            libc.sigaddset(defaults, number)
        _check(libc.posix_spawnattr_init(self._attributes))
        _check(libc.posix_spawnattr_setsigmask(self._attributes, mask))
        _check(libc.posix_spawnattr_setsigdefault(self._attributes, defaults))
        flags = ctypes.c_short(SETSIGDEF | SETSIGMASK | SETSID)
        _check(libc.posix_spawnattr_setflags(self._attributes, flags))
        _check(libc.posix_spawn_file_actions_init(self._actions))
        devnull = os.fsencode(os.devnull)
        _check(
            libc.posix_spawn_file_actions_addopen(
                self._actions, 0, devnull, os.O_RDONLY, ctypes.c_uint(0)
            )
        )
        self._libc = libc

    def spawn(
        self,
        path: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        streams: tuple[int, int] | None,
    ) -> int:
        words = _texts(arguments)
        variables = _texts([f"{name}={value}" for name, value in environment.items()])
        pid = ctypes.c_int(0)
        with self._actions_for(streams) as actions:
            error = self._spawn(
                ctypes.byref(pid), os.fsencode(path), actions, self._attributes, words, variables
            )
        _check(error, path)
        return pid.value

    @contextlib.contextmanager
    def _actions_for(self, streams: tuple[int, int] | None) -> Iterator[Any]:
        if streams is None:
            yield self._actions
            return
        actions = ctypes.create_string_buffer(OPAQUE_BYTES)
        _check(self._libc.posix_spawn_file_actions_init(actions))
        try:
            for new, own in enumerate(streams):
                _check(self._libc.posix_spawn_file_actions_adddup2(actions, own, new))
            yield actions
        finally:
            self._libc.posix_spawn_file_actions_destroy(actions)


def _texts(texts: Sequence[str]) -> Any:
    """Return texts as a C array that ends with a null pointer."""
    encoded = list(map(os.fsencode, texts))
    if any(b"\0" in text for text in encoded):
        raise ValueError("embedded null byte")
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)


def _check(error: int, path: str | None = None) -> None:
    if error:
        raise OSError(error, os.strerror(error), path)
