"""The routes of the screens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from motoko.web.rendering import SCREENS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from motoko.web.rendering import Pages


def routes() -> list[BaseRoute]:
    """Return the routes of all screens."""
    return [Route(f"/{path}", _screen) for _, _, path in SCREENS]


async def _screen(request: Request) -> Response:
    pages: Pages = request.app.state.pages
    path = request.url.path.strip("/")
    screen, title = next((name, title) for name, title, at in SCREENS if at == path)
    return pages.render(request, "screen.html", screen=screen, title=title, command="motoko info")
