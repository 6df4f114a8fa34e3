"""The constraint language: text in, a fast test of runs and an index plan out.

``"state = FINISHED and x > 0.5"``; lists and commas mean *and*, a comma binding loosest; ``or``,
``not``, parentheses; ``=  !=  <  <=  >  >=``, regular-expression search ``~  !~`` (``~*  !~*``
ignore case), ``in (a, b)`` and ``not in (a, b)``. The left side is a column: a job or run field,
``jobs.x`` or ``runs.x``. The right side is a number, a quoted text, a bare word (text), or ``true``
and ``false``. In quoted text a quote is doubled or follows a backslash; before anything but a quote
or a backslash, a backslash stands for itself, so that patterns need not double it.

A run without the field does not match, under any operator: such a comparison is *unknown*, ``not``
unknown is unknown, and a run is selected only where the whole is true. A present value of another
type than the right side equals nothing and is in no order, so ``!=``, ``!~`` and ``not in`` hold
for it; so it is with nan.
"""

from __future__ import annotations

from motoko.core.constraints.columns import Columns
from motoko.core.constraints.constraint import ALL, Constraint, parse, parse_each
from motoko.core.constraints.index_plan import IndexPlan

__all__ = ["ALL", "Columns", "Constraint", "IndexPlan", "parse", "parse_each"]
