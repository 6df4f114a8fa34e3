"""Several changes as one commit: ``with workflow.transaction():``; ``async with`` in ``main``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from motoko.errors import ConflictError
from motoko.storage.scope import join_transaction, use_scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from motoko.storage.scope import Scope, SegmentScope


class Transaction:
    """What is done in the block is one commit; an exception drops it all.

    Inside an action, whose stretches are transactions already, the block joins its stretch.
    ConflictError where somebody else changed what the block wrote: nothing of it is committed.
    StateError where the block awaits runs.
    """

    def __init__(self, outer: Scope) -> None:
        self._outer = outer
        self._scope: SegmentScope | None = None
        self._entered: AbstractContextManager[None] = contextlib.nullcontext()

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered.__exit__(kind, error, traceback)
        scope = self._scope
        if scope is None:
            return
        try:
            if error is None:
                with _explained():
                    scope.database.submit(lambda: scope.commit(last=True)).result()
        finally:
            self._end(scope)

    async def __aenter__(self) -> Self:
        await self._outer.prepare_nested()
        self._begin(prepared=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered.__exit__(kind, error, traceback)
        scope = self._scope
        if scope is None:
            return
        try:
            if error is None:
                with _explained():
                    await scope.finish(last=True)
        finally:
            self._end(scope)

    def _begin(self, *, prepared: bool = False) -> None:
        self._scope = self._outer.begin_nested(prepared=prepared)
        self._entered = join_transaction() if self._scope is None else use_scope(self._scope)
        self._entered.__enter__()

    def _end(self, scope: SegmentScope) -> None:
        scope.close()
        scope.origin.end()
        self._outer.on_nested_end()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ConflictError as error:
        raise ConflictError(
            error.message, hint="Nothing of the transaction is committed: do it again."
        ) from error
