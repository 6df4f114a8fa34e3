"""``motoko serve`` with routes for tests: ``python -m tests.support.web_server ARGUMENTS``.

MOTOKO_TEST_IMPATIENT: the seconds after which the server aborts the connection of a stuck client.
MOTOKO_TEST_KEEP_ALIVE: the seconds after which it sends a comment to a silent stream.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import anyio
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from motoko.cli import main
from motoko.errors import UnknownRunError
from motoko.web import protocol, screens, site, streams
from motoko.web.forms import read_form
from motoko.web.policy import Denial

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

SECRET_TEXT = "the secret of the workflow"
HOSTILE = "<script>document.title='pwned'</script>\x1b[31m\u202eevil\x00"


async def stream(request: Request) -> Response:
    """Send numbers for ever, or as fast as possible with ``?flood``."""
    flood = "flood" in request.query_params
    filler = "x" * 10_000 if flood else ""

    async def events() -> AsyncGenerator[str]:
        number = 0
        while True:
            yield streams.event_text(f"{SECRET_TEXT} {number}{filler}")
            number += 1
            await anyio.sleep(0 if flood else 0.02)

    response: Response = request.app.state.streams.respond(events)
    return response


async def silence(request: Request) -> Response:
    """Send no events."""

    async def events() -> AsyncGenerator[str]:
        await anyio.sleep_forever()
        yield ""

    response: Response = request.app.state.streams.respond(events)
    return response


async def change(request: Request) -> Response:
    """Show the form of a request that changes something."""
    content = await read_form(request)
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse({"changed": len(content)})
    response: Response = request.app.state.pages.redirect(request, "deep/page")
    return response


async def page(request: Request) -> Response:
    """Show a page with hostile values and a form."""
    response: Response = request.app.state.pages.render(
        request,
        "error.html",
        denial=Denial(200, HOSTILE, "", ""),
        navigation=True,
        command="motoko info " + "y" * 10_000_000,
    )
    return response


async def fail(request: Request) -> Response:
    """Raise an unexpected error."""
    raise RuntimeError("a secret detail")


async def unknown(request: Request) -> Response:
    """Raise an error that the user can remedy."""
    raise UnknownRunError("no run solve.9", hint="The last one is solve.<8>.")


async def nothing(request: Request) -> Response:
    """Answer without a page."""
    return PlainTextResponse(SECRET_TEXT)


ROUTES: list[BaseRoute] = [
    Route("/stream", stream),
    Route("/silence", silence),
    Route("/change", change, methods=["POST"]),
    Route("/deep/page", page),
    Route("/fail", fail),
    Route("/unknown", unknown),
    Route("/text", nothing),
]


def serve(arguments: list[str]) -> int:
    """Run the command with these routes."""
    vars(site)["routes"] = lambda: [*screens.routes(), *ROUTES]
    if "MOTOKO_TEST_IMPATIENT" in os.environ:
        seconds = float(os.environ["MOTOKO_TEST_IMPATIENT"])
        protocol.Connection.request_seconds = seconds
        protocol.Connection.write_seconds = seconds
    if "MOTOKO_TEST_KEEP_ALIVE" in os.environ:
        vars(streams)["KEEP_ALIVE_SECONDS"] = float(os.environ["MOTOKO_TEST_KEEP_ALIVE"])
    return main(arguments)


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:]))
