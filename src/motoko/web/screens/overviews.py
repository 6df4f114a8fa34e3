"""The screens that show the campaign as a whole."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from motoko.runtime.commands import SystemCommandRunner
from motoko.views.flow import Flow, flow_of, read_creators
from motoko.views.step_graph import StepGraph, read_step_graph
from motoko.web.screen import Screen, Visit, option

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

FLOW_SECONDS: Final = 10.0  # between two counts of the causes of all runs


class CampaignScreen(Screen):
    """Progress, studies, what needs a person, events, and what happened."""

    name = "campaign"
    path = "/"
    parts = ("summary", "studies", "needs", "events", "launchers", "happenings")

    async def load(self, visit: Visit, state: dict[str, Any]) -> dict[str, Any]:
        """Return the command line; the campaign is known."""
        return {"title": "Campaign", "command": f"motoko watch{option(visit.run_name)}"}


class EventsScreen(Screen):
    """The registered events."""

    name = "events"
    path = "/events"
    parts = ("all_events",)

    async def load(self, visit: Visit, state: dict[str, Any]) -> dict[str, Any]:
        """Return the command line; the campaign is known."""
        return {"title": "Events", "command": f"motoko why{option(visit.run_name)}"}


class FailuresScreen(Screen):
    """The failed runs by cause."""

    name = "failures"
    path = "/failures"
    parts = ("groups",)

    async def load(self, visit: Visit, state: dict[str, Any]) -> dict[str, Any]:
        """Return the command line; the campaign is known."""
        return {"title": "Failures", "command": f"motoko results --failed{option(visit.run_name)}"}


class FlowScreen(Screen):
    """The flow between studies."""

    name = "flow"
    path = "/flow"
    parts = ("flow",)

    async def load(self, visit: Visit, state: dict[str, Any]) -> dict[str, Any]:
        """Count the causes of all runs, not at each reading."""
        campaign = visit.campaign
        at = 0.0 if campaign is None else campaign.at
        if "creators" not in state or at - state["at"] >= FLOW_SECONDS:
            state["at"] = at
            state["creators"] = await visit.views.query(
                partial(read_creators, run_name=visit.run_name)
            )
            state["graphs"] = await self._read_graphs(visit)
        creators: dict[str, Counter[str]] = state["creators"]
        events = () if campaign is None else campaign.events
        flow = flow_of(creators, events) if creators else Flow({}, ())
        return {
            "title": "Flow", "flow": flow, "graphs": state["graphs"],
            "command": f"motoko history{option(visit.run_name)}",
        }  # fmt: skip

    async def _read_graphs(self, visit: Visit) -> list[StepGraph]:
        """Check the step graphs that ``motoko serve --graph`` names, in processes of their own."""
        targets: Sequence[str] = visit.request.app.state.graphs
        directory = visit.views.workflow.directory
        runner = SystemCommandRunner()
        return [await read_step_graph(runner, target, directory) for target in targets]
