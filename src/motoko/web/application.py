"""The application: routes of the screens, static files, error pages and access rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from motoko.web.access import Access
from motoko.web.screen import PageStates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from motoko.views.live import LiveViews
    from motoko.web.policy import AccessPolicy
    from motoko.web.rendering import Pages
    from motoko.web.sessions import Sessions
    from motoko.web.streams import EventStreams

STATIC_FILES: Final = Path(__file__).with_name("static")


def create_app(
    routes: Sequence[BaseRoute],
    policy: AccessPolicy,
    sessions: Sessions,
    pages: Pages,
    streams: EventStreams,
    views: LiveViews,
    graphs: Sequence[str] = (),
) -> ASGIApp:
    """Return the application.

    Its routes find ``pages``, ``streams``, ``views`` and ``graphs``, the step graphs to show, in
    ``request.app.state``.

    A path has no trailing slash: the addresses in templates are relative.
    """
    static = Mount("/static", StaticFiles(directory=STATIC_FILES), name="static")
    app = Starlette(
        routes=[static, *routes],
        exception_handlers=pages.error_handlers(),
    )
    app.router.redirect_slashes = False  # the redirection would lack the prefix of a proxy
    app.state.pages = pages
    app.state.streams = streams
    app.state.views = views
    app.state.graphs = graphs
    app.state.page_states = PageStates(sessions.rng)
    return Access(app, policy, sessions, pages)
