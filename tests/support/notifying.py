"""Receivers of notifications: a command that keeps each message, and a web server."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.command_line import Shell

# Its output is a file for each message, complete as soon as it has its name.
RECEIVER = """\
mkdir -p received
name="$MOTOKO_NOTIFY_EVENT.$$"
{ echo "$MOTOKO_NOTIFY_RUN_NAME"; cat; } > ".$name" && mv ".$name" "received/$name"
"""
COMMAND = "  - command: [sh, receiver]\n"


def configure(shell: Shell, notify: str) -> None:
    """Add the entries of ``notify`` to a workflow, and write the receiver."""
    file = shell.directory / "motoko.yaml"
    text = file.read_text().partition("notify:")[0]
    shell.write({"motoko.yaml": f"{text}notify:\n{notify}", "receiver": RECEIVER})


def received(directory: Path) -> list[tuple[str, str, str]]:
    """Return event, run name and first line of each message to the command, sorted."""
    found = []
    for path in directory.glob("received/*"):
        run_name, line, *_ = path.read_text().splitlines()
        found.append((path.name.partition(".")[0], run_name, line))
    return sorted(found)


def events(directory: Path) -> list[tuple[str, str]]:
    """Return event and run name of each message to the command, sorted."""
    return [(event, run_name) for event, run_name, _ in received(directory)]


@dataclass
class WebServer:
    """A server that answers POST requests with these statuses, then with 200.

    A status of 0 closes the connection without an answer.
    """

    statuses: list[int] = field(default_factory=list)
    location: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def web_server(*statuses: int, location: str = "") -> Iterator[WebServer]:
    """Run a web server in this process."""
    server = WebServer(list(statuses), location)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            server.methods.append("POST")
            server.requests.append(json.loads(content))
            status = server.statuses.pop(0) if server.statuses else 200
            if status:
                self.send_response(status)
                if server.location:
                    self.send_header("Location", server.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def do_GET(self) -> None:
            server.methods.append("GET")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}/hook/SECRET"
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
