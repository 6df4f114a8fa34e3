"""Why a node is fresh, or why not, down to what is the cause."""

from __future__ import annotations

from dataclasses import dataclass

from motoko.graph.thread_driver import check_freshness

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from motoko.graph.node import Verdict
    from motoko.graph.plan import BuildPlan


@dataclass(frozen=True, slots=True)
class Reason:
    """What one node answered; ``verdict`` is an exception where it could not be asked."""

    name: str
    depth: int
    verdict: Verdict | Exception

    @property
    def fresh(self) -> bool:
        """Whether the node is fresh."""
        return not isinstance(self.verdict, Exception) and self.verdict.fresh is True

    def __str__(self) -> str:
        if isinstance(self.verdict, Exception):
            answer = f"cannot tell: {type(self.verdict).__name__}: {self.verdict}"
        else:
            word = {True: "fresh", False: "stale", None: "undecided"}[self.verdict.fresh]
            answer = ": ".join(
                [word, *(["; ".join(self.verdict.reasons)] * bool(self.verdict.reasons))]
            )
        return f"{'  ' * self.depth}{self.name}: {answer}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a node and, where it is not fresh, its requirements answered; each node once."""

    reasons: tuple[Reason, ...]

    @property
    def fresh(self) -> bool:
        """Whether the node that was asked for is fresh."""
        return self.reasons[0].fresh

    def __str__(self) -> str:
        return "\n".join(map(str, self.reasons))


def explain(plan: BuildPlan, name: str) -> Explanation:
    """Ask ``name`` and, from what is not fresh downwards, what it requires."""
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
