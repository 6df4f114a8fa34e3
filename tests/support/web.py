"""A process that serves a page, and clients of it."""

from __future__ import annotations

import os
import re
import signal
from contextlib import contextmanager
from socket import AF_UNIX, create_connection
from socket import socket as Socket  # noqa: N812 - `socket` is a property
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.support.command_line import PATIENCE, wait_until
from tests.support.forked import Forked
from tests.support.web_server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

LINK = re.compile(r"http://127\.0\.0\.1:(\d+)/\?token=\S+")
CSRF = re.compile(r'data-csrf-token="([^"]+)"')


class Served:
    """``motoko serve`` in a workflow, with the routes for tests, until the block ends."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.directory = directory
        self._output = directory / "serve.log"
        self._output.write_text("")
        self.process = Forked(
            serve,
            ["serve", *arguments],
            directory=directory,
            environment={**os.environ, **environment},
            output=self._output,
        )

    @property
    def output(self) -> str:
        """Return what the process has printed."""
        return self._output.read_text(encoding="utf-8")

    @property
    def link(self) -> str:
        """Return the link that the process printed."""
        found = LINK.search(self.output)
        assert found is not None, self.output
        return found[0]

    @property
    def port(self) -> int:
        """Return the port that the process printed."""
        found = LINK.search(self.output)
        assert found is not None, self.output
        return int(found[1])

    @property
    def socket(self) -> Path:
        """Return the usual path of the socket."""
        return self.directory / ".wf" / "web.sock"

    @property
    def base(self) -> str:
        """Return the address of the page."""
        return f"http://127.0.0.1:{self.port}" if "token=" in self.output else "http://localhost"

    def client(self, **options: Any) -> httpx.Client:
        """Return a client without cookies, by the port or the socket."""
        transport = None
        if "token=" not in self.output:
            transport = httpx.HTTPTransport(uds=str(self.socket))
        return httpx.Client(
            base_url=self.base, transport=transport, timeout=PATIENCE, trust_env=False, **options
        )

    @contextmanager
    def signed_in(self) -> Iterator[httpx.Client]:
        """Yield a client with a session."""
        with self.client() as client:
            response = client.get(self.link if "token=" in self.output else "/")
            assert response.status_code in {200, 303}, response.text
            yield client

    def connect(self) -> Socket:
        """Return a connection."""
        if "token=" in self.output:
            return create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection = Socket(AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(str(self.socket))
        return connection

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process; return its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        """Wait until the page is served."""
        wait_until(
            lambda: "http://" in self.output or self.process.poll() is not None,
            "the page is served",
        )
        assert self.process.poll() is None, self.output
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the process."""
        self.process.kill()
        self.process.wait(PATIENCE)


def csrf_token(client: httpx.Client) -> str:
    """Return the token of the client's session."""
    return token_in(client.get("/"))


def token_in(page: httpx.Response) -> str:
    """Return the token in a page."""
    found = CSRF.search(page.text)
    assert found is not None
    return found[1]
