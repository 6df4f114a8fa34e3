"""Parsing and execution of fault plans."""

from __future__ import annotations

import pytest

from motoko.errors import MotokoError
from motoko.runtime import fault_points

pytestmark = pytest.mark.unit


def test_valid_plans() -> None:
    assert fault_points.parse_faults("files.before_rename:kill") == (
        fault_points.FaultAction("files.before_rename", "kill", 1),
    )
    assert fault_points.parse_faults(
        "files.before_rename:raise:3, daemons.before_ready:sleep=0.2:2"
    ) == (
        fault_points.FaultAction("files.before_rename", "raise", 3),
        fault_points.FaultAction("daemons.before_ready", "sleep", 2, 0.2),
    )
    assert fault_points.parse_faults("") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("files.before_renam:kill", "Did you mean 'files.before_rename'"),
        ("files.before_rename:kil", "unknown action 'kil'\n  Did you mean 'kill'"),
        ("files.before_rename", "unknown action ''"),
        ("files.before_rename:kill:x", "not a number"),
        ("files.before_rename:sleep=x", "not a number"),
    ],
)
def test_an_invalid_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(MotokoError, match=f"^MOTOKO_FAULT={text}: ") as caught:
        fault_points.parse_faults(text)
    assert message in str(caught.value)


def test_an_undeclared_point_is_an_error_even_without_a_plan() -> None:
    with pytest.raises(MotokoError, match=r"unknown fault point 'files\.rename'"):
        fault_points.point("files.rename")


def test_a_fault_occurs_only_at_the_nth_passage() -> None:
    plan = fault_points.FaultPlan(fault_points.parse_faults("files.before_rename:raise:2"), None)
    plan.record_passage("files.before_rename")
    plan.record_passage("daemons.before_ready")
    with pytest.raises(fault_points.InjectedFault, match=r"files\.before_rename"):
        plan.record_passage("files.before_rename")
    plan.record_passage("files.before_rename")
