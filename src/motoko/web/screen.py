"""A screen: a page made of parts, and the stream of the parts that change."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route

from motoko.web.streams import event_text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from motoko.runtime.ports import Random
    from motoko.views.campaign import Campaign
    from motoko.views.live import Latest, LiveViews
    from motoko.web.rendering import Pages
    from motoko.web.streams import EventStreams

LIVE: Final = "live"  # the query parameter that asks for the stream of a page, with its name
MOST_PAGES: Final = 16  # whose streams continue with the state of the page


@dataclass(frozen=True, slots=True)
class Visit:
    """A request with what a screen needs to answer it. ``latest``: the campaign's reading."""

    request: Request
    views: LiveViews
    run_name: str
    latest: Latest

    @property
    def campaign(self) -> Campaign | None:
        """The latest campaign."""
        return self.latest.campaign

    def argument(self, name: str, default: str = "") -> str:
        """Return a query parameter."""
        return self.request.query_params.get(name, default)


class PageStates:
    """What the last pages showed, by their names, so that their streams continue with it."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._states: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def add(self, state: dict[str, Any]) -> str:
        """Keep the state of a new page; return its name."""
        name = self._rng.token(8)
        self._states[name] = state
        if len(self._states) > MOST_PAGES:
            self._states.popitem(last=False)
        return name

    def find(self, name: str) -> dict[str, Any]:
        """Return the state of a page, an empty one if it is not known any more."""
        return self._states.get(name, {})


class Screen(ABC):
    """One screen. ``parts``: the templates of its parts, each the content of one element."""

    name: str
    path: str
    parts: Sequence[str]

    @abstractmethod
    async def load(self, visit: Visit, state: dict[str, Any]) -> dict[str, Any]:
        """Return the variables of its templates.

        ``state`` is empty at first, and keeps what the same page showed before.
        """

    @property
    def template(self) -> str:
        """The template of the page."""
        return f"{self.name}.html"

    def route(self) -> BaseRoute:
        """Return the route of the page and of its stream."""
        return Route(self.path, self._respond, methods=["GET"])

    async def _respond(self, request: Request) -> Response:
        views: LiveViews = request.app.state.views
        pages: Pages = request.app.state.pages
        run_name = await choose_run_name(request, views)
        if LIVE in request.query_params:
            streams: EventStreams = request.app.state.streams
            return streams.respond(lambda: self._stream(request, views, pages, run_name))
        visit = Visit(request, views, run_name, await views.campaign(run_name))
        state: dict[str, Any] = {}
        variables = await self.load(visit, state)
        states: PageStates = request.app.state.page_states
        return pages.render(
            request, self.template, **_common(self, visit), **variables, live=states.add(state)
        )

    async def _stream(
        self, request: Request, views: LiveViews, pages: Pages, run_name: str
    ) -> AsyncGenerator[str]:
        """Yield the parts that changed, after each reading."""
        sent: dict[str, str] = {}
        states: PageStates = request.app.state.page_states
        state = states.find(request.query_params[LIVE])
        number = 0
        with views.watch(run_name) as watch:
            while True:
                latest = await watch.newer(number)
                number = latest.number
                visit = Visit(request, views, run_name, latest)
                variables = {**_common(self, visit), **await self.load(visit, state)}
                changed: list[tuple[str, str]] = []
                for part in (*self.parts, "status"):
                    text = pages.part(request, f"parts/{part}.html", **variables)
                    if sent.get(part) != text:
                        sent[part] = text
                        changed.append((part, text))
                at = None if latest.campaign is None else latest.campaign.at
                age = None if at is None else max(0.0, views.now() - at)
                yield event_text(json.dumps({"age": age, "parts": changed}))


async def choose_run_name(request: Request, views: LiveViews) -> str:
    """Return the requested run name, by default the one that is running or ran last."""
    from motoko.views.run_names import latest_run_name

    given: str | None = request.query_params.get("run_name")
    return await views.read(latest_run_name) if given is None else given


def option(run_name: str) -> str:
    """Return the option of commands that names a run name; empty without one."""
    return f" --run_name {quote(run_name)}" if run_name else ""


def _common(screen: Screen, visit: Visit) -> dict[str, Any]:
    campaign = visit.campaign
    return {
        "screen": screen.name,
        "run_name": visit.run_name,
        "campaign": campaign,
        "problem": visit.latest.problem,
        "now": visit.views.now(),
    }
