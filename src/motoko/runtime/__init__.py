"""What Motoko needs of the operating system: clock, files, locks, processes, daemons, faults."""

from __future__ import annotations
