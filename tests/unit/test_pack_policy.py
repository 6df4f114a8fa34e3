"""When the server packs its file by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from motoko.runtime.ports import SystemClock
from motoko.server.packing import Packer, PackPolicy

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit

POLICY = PackPolicy(minimum=100, growth=2.0, keep=600.0, pause=10.0)


class ManualClock(SystemClock):
    """Stands still until the test moves it."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


class Storage:
    """Has ``old`` bytes of packed states and ``young`` bytes of others; a pack takes a while."""

    def __init__(self, clock: ManualClock, *, old: int, young: int, takes: float = 1.0) -> None:
        self._clock, self._takes = clock, takes
        self.packed_bytes, self._young = old, young
        self.packs = 0

    def getSize(self) -> int:
        return self.packed_bytes + self._young

    def pack(self, *_: Any) -> None:
        self.packs += 1
        self._clock.seconds += self._takes


def packs(packer: Packer, clock: ManualClock, at: float, size: int) -> bool:
    """Return whether the packer packs a file of a size at a time."""
    storage = packer.storage
    before, clock.seconds = storage.packs, at
    packer.pack_if_grown(size)
    packer.wait()
    return bool(storage.packs > before)


def make(directory: Path, clock: ManualClock, **storage: Any) -> Packer:
    packer = Packer(directory / "size", POLICY, clock=clock)
    packer.storage = Storage(clock, **storage)
    return packer


def test_states_too_young_for_a_pack_do_not_postpone_the_next_one(tmp_path: Path) -> None:
    clock = ManualClock()
    packer = make(tmp_path, clock, old=0, young=5000)
    assert not packs(packer, clock, 0, 99)
    assert packs(packer, clock, 0, 5000)
    assert not packs(packer, clock, 600, 9000)  # the pack would drop nothing yet
    assert packs(packer, clock, 601, 9000)


def test_a_file_is_packed_when_it_has_doubled(tmp_path: Path) -> None:
    clock = ManualClock()
    packer = make(tmp_path, clock, old=300, young=50)
    assert packs(packer, clock, 0, 1000)
    assert not packs(packer, clock, 10_000, 599)
    assert packs(packer, clock, 10_000, 600)


def test_long_packs_are_rare(tmp_path: Path) -> None:
    clock = ManualClock()
    packer = make(tmp_path, clock, old=10, young=0, takes=1000)
    assert packs(packer, clock, 0, 1000)
    assert not packs(packer, clock, 10_999, 1000)
    assert packs(packer, clock, 11_000, 1000)


def test_a_restarted_server_knows_the_last_pack(tmp_path: Path) -> None:
    clock = ManualClock()
    assert packs(make(tmp_path, clock, old=300, young=5000), clock, 0, 5000)
    packer = make(tmp_path, clock, old=300, young=5000)
    assert not packs(packer, clock, 1, 5000)
    assert not packs(packer, clock, 602, 599)
    assert packs(packer, clock, 602, 600)
