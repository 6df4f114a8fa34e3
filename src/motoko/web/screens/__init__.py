"""The screens of the page and their routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motoko.web.screens.overviews import CampaignScreen, EventsScreen, FailuresScreen, FlowScreen
from motoko.web.screens.plots import PlotsScreen, plot_route
from motoko.web.screens.run import RunScreen, output_route
from motoko.web.screens.runs import RunsScreen
from motoko.web.screens.verbs import verb_route

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


def routes() -> list[BaseRoute]:
    """Return the routes of all screens."""
    screens = [
        CampaignScreen(), RunsScreen(), RunScreen(), EventsScreen(), FailuresScreen(), FlowScreen(),
        PlotsScreen(),
    ]  # fmt: skip
    return [output_route(), plot_route(), *(screen.route() for screen in screens), verb_route()]
