"""What the terminal screen and the web page show: read models of a workflow, as plain records."""

from __future__ import annotations
