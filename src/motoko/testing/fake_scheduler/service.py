"""x"""
from __future__ import annotations
class FakeScheduler: pass
