"""Explains why a node is fresh or stale, down to the cause."""

from __future__ import annotations

from dataclasses import dataclass

from motoko.graph.thread_driver import check_freshness

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from motoko.graph.node import Verdict
    from motoko.graph.plan import BuildPlan


@dataclass(frozen=True, slots=True)
class Reason:
    """The verdict of one node, or the exception that its check raised."""

    name: str
    depth: int
    verdict: Verdict | Exception

    @property
    def fresh(self) -> bool:
        """Whether the node is fresh."""
        return not isinstance(self.verdict, Exception) and self.verdict.fresh is True

    def __str__(self) -> str:
        if isinstance(self.verdict, Exception):
            words = ["check failed", type(self.verdict).__name__, str(self.verdict)]
        else:
            words = [self.verdict.status, "; ".join(self.verdict.reasons)]
        return f"{'  ' * self.depth}{': '.join([self.name, *filter(None, words)])}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdicts of a node and, where one is not fresh, of its requirements; each node once."""

    reasons: tuple[Reason, ...]

    @property
    def fresh(self) -> bool:
        """Whether the explained node is fresh."""
        return self.reasons[0].fresh

    def __str__(self) -> str:
        return "\n".join(map(str, self.reasons))


def explain(plan: BuildPlan, name: str) -> Explanation:
    """Check ``name`` and, below each node that is not fresh, its requirements."""
    reasons = []
    seen = set()
    stack = [(name, 0)]
    while stack:
        current, depth = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        node = plan.nodes[current]
        reason = Reason(current, depth, check_freshness(node))
        reasons.append(reason)
        if not reason.fresh:
            stack.extend((one, depth + 1) for one in reversed(node.requires))
    return Explanation(tuple(reasons))
