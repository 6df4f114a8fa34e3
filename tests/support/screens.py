"""``motoko watch`` in tests: with Textual's pilot, and in a terminal of tmux."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.command_line import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from motoko.tui.app import WatchApp


def shown(app: WatchApp) -> str:
    """Return the text of the screen."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


async def until(app: WatchApp, *texts: str, gone: str = "") -> str:
    """Wait until the screen shows all these texts, and not ``gone``; return its text."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = shown(app)
        if all(text in found for text in texts) and not (gone and gone in found):
            return found
        assert time.monotonic() < deadline, f"not {texts}, or still {gone!r}:\n{found}"
        await asyncio.sleep(0.02)


class Terminal:
    """A terminal of tmux, with a server of its own."""

    def __init__(self, width: int, height: int) -> None:
        if shutil.which("tmux") is None:
            pytest.skip("tmux is not installed")
        self._size = str(width), str(height)
        self._place = tempfile.mkdtemp(prefix="motoko-")  # paths of sockets must be short

    def __enter__(self) -> Self:
        """Start a shell."""
        width, height = self._size
        self._tmux(
            "-f", os.devnull, "new-session", "-d", "-x", width, "-y", height,
            "env PS1='ready> ' sh",
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        """End the server and its processes."""
        self._tmux("kill-server")
        shutil.rmtree(self._place, ignore_errors=True)

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-u", "-S", str(Path(self._place) / "socket"), *arguments]
        environment = {**os.environ, "LANG": "C.UTF-8", "TERM": "xterm-256color"}
        return subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True
        ).stdout

    def start(
        self, directory: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start ``motoko watch`` in the shell; it prints its exit status."""
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        words = ["env", *variables, sys.executable, "-m", "motoko", "watch", *arguments]
        words += ["--workflow", str(directory)]
        self.type(f"cd {shlex.quote(str(Path.cwd()))}; {shlex.join(words)}; echo status=$?")
        self.press("Enter")

    def type(self, text: str) -> None:
        """Type a text."""
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys, as tmux names them."""
        self._tmux("send-keys", *keys)

    def show(self, *, raw: bool = False) -> str:
        """Return the text of the terminal; if ``raw``, with its escapes."""
        return self._tmux("capture-pane", "-p", *(["-e"] if raw else []))

    def until(self, condition: str | Callable[[str], Any], *, what: str = "") -> str:
        """Wait until the terminal shows a text, or a condition of its text is true."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.show()
            if condition in found if isinstance(condition, str) else condition(found):
                return found
            assert time.monotonic() < deadline, f"still not {what or condition!r}:\n{found}"
            time.sleep(0.05)

    def pid(self) -> int:
        """Return the process that ``start`` started."""
        shell = self._tmux("display-message", "-p", "#{pane_pid}").strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(children[-1])

    @property
    def is_restored(self) -> bool:
        """Whether the program left the alternate screen, with a cursor and without mouse."""
        flags = "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"
        return self._tmux("display-message", "-p", flags).split() == ["0", "1", "0"]
