"""``motoko doctor``: examine an installation and a workflow, and change nothing.

A check reads facts, and judges them with a pure function. Its findings name a problem and the next
step. A check that fails or does not end in time is a finding, too.
"""

from __future__ import annotations
