"""Several changes as one commit: ``with workflow.transaction():``; ``async with`` in ``main``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from motoko.errors import ConflictError
from motoko.storage.scope import join_transaction, use_scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from motoko.storage.scope import Scope, SegmentScope


class Transaction:
    """Commits the changes of its block at once; an exception discards them.

    In an action the block is part of the current segment. Raise ConflictError, and commit nothing,
    if another process changed the same values. Raise StateError if the block awaits runs.
    """

    def __init__(self, outer: Scope) -> None:
        self._outer = outer
        self._scope: SegmentScope | None = None  # None within an action
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self._entered.close()
        with self._ending() as scope:
            if scope is not None and error is None:
                scope.database.submit(lambda: scope.commit(last=True)).result()

    async def __aenter__(self) -> Self:
        await self._outer.prepare_nested()
        self._begin(prepared=True)
        return self

    async def __aexit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self._entered.close()
        with self._ending() as scope:
            if scope is not None and error is None:
                await scope.finish(last=True)

    def _begin(self, *, prepared: bool = False) -> None:
        self._scope = self._outer.begin_nested(prepared=prepared)
        context = join_transaction() if self._scope is None else use_scope(self._scope)
        self._entered.enter_context(context)

    @contextlib.contextmanager
    def _ending(self) -> Iterator[SegmentScope | None]:
        """Yield the scope to commit, add a hint to conflicts, and close the scope."""
        scope = self._scope
        try:
            yield scope
        except ConflictError as error:
            raise ConflictError(
                error.message, hint="Nothing of the transaction is committed: repeat it."
            ) from error
        finally:
            if scope is not None:
                scope.close()
                scope.origin.end()
                self._outer.on_nested_end()
