"""What talks to bash and to batch schedulers, one module each."""

from __future__ import annotations
