"""What can be done with a workflow as a whole: functions that return data and print nothing."""

from __future__ import annotations
