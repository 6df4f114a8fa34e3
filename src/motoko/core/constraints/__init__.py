"""The constraint language: parses text into a fast predicate of runs and an index plan.

``"state = FINISHED and x > 0.5"``; lists and commas mean *and*, a comma binding loosest; ``or``,
``not``, parentheses; ``=  !=  <  <=  >  >=``, regular-expression search ``~  !~`` (``~*  !~*``
ignore case), ``in (a, b)`` and ``not in (a, b)``. The left side is a column: a job or run field,
``jobs.x`` or ``runs.x``. The right side is a number, quoted text, a bare word (text), ``true`` or
``false``. In quoted text a quote is doubled or follows a backslash. A backslash before any other
character stands for itself.

A run without the field does not match, under any operator: such a comparison is *unknown*, ``not``
unknown is unknown, and a run is selected only if the whole constraint is true. A value of another
type than the right side, or nan, equals nothing and has no order: ``!=``, ``!~`` and ``not in``
hold for it.
"""

from __future__ import annotations

from motoko.core.constraints.constraint import ALL, Constraint, parse, parse_each
from motoko.core.constraints.index_plan import IndexPlan
from motoko.core.constraints.typing import Columns

__all__ = ["ALL", "Columns", "Constraint", "IndexPlan", "parse", "parse_each"]
