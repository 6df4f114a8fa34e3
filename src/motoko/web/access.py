"""The outermost ASGI application: it admits requests, and secures every response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.responses import RedirectResponse

from motoko.web import policy as rules
from motoko.web.exchange import SESSION, Exchange
from motoko.web.sessions import is_equal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from motoko.web.policy import AccessPolicy, Denial
    from motoko.web.rendering import Pages
    from motoko.web.sessions import Session, Sessions

TOKEN: Final = "token"  # noqa: S105 - the name of the parameter


@dataclass(frozen=True, slots=True)
class Access:
    """Passes admitted requests to ``app``, and answers the others."""

    app: ASGIApp
    policy: AccessPolicy
    sessions: Sessions
    pages: Pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            await self._handle(Exchange.of(scope, receive, send))

    async def _handle(self, exchange: Exchange) -> None:
        facts = exchange.facts
        denial = self.policy.decide(facts)
        if denial is not None or facts.is_static:
            await (self._deny(exchange, denial) if denial else exchange.run(self.app))
            return
        session = self._session(exchange)
        token = exchange.query.get(TOKEN)
        if token is not None and self.policy.needs_session and facts.is_document:
            await self._open_link(exchange, session, token)
        elif session is None and self.policy.needs_session:
            await self._ask_for_link(exchange)
        elif facts.is_safe:
            await self._read(exchange, session)
        else:
            await self._change(exchange, session)

    async def _open_link(self, exchange: Exchange, session: Session | None, token: str) -> None:
        """Exchange the token of a link for a session, and hide the token."""
        if session is None:
            if not self.sessions.redeem(token):
                await self._deny(exchange, rules.WRONG_TOKEN)
                return
            exchange.set_cookie(self.sessions.issue())
        target = exchange.own_address(without=TOKEN)
        if exchange.facts.is_foreign_navigation:
            # A browser would not send the strict cookie with a redirection from another site.
            page = self.pages.render(exchange.request, "forward.html", target=target)
            await exchange.run(page)
        else:
            await exchange.run(RedirectResponse(target, 303))

    async def _ask_for_link(self, exchange: Exchange) -> None:
        """Deny a request without a session; repeat one that another site caused."""
        if exchange.facts.is_foreign_navigation:
            page = self.pages.render(
                exchange.request, "forward.html", target=exchange.own_address()
            )
            await exchange.run(page)
        else:
            await self._deny(exchange, rules.NO_SESSION)

    async def _read(self, exchange: Exchange, session: Session | None) -> None:
        if session is None:
            session = self.sessions.issue()
            if exchange.facts.is_document:
                exchange.set_cookie(session)
        exchange.scope[SESSION] = session
        await exchange.run(self.app)

    async def _change(self, exchange: Exchange, session: Session | None) -> None:
        body = await exchange.read_body(self.policy.max_body)
        if body is None:
            await self._deny(exchange, rules.TOO_LARGE)
        elif session is None or not is_equal(exchange.csrf_token(body), session.csrf_token):
            await self._deny(exchange, rules.WRONG_CSRF_TOKEN)
        else:
            exchange.scope[SESSION] = session
            await exchange.run(self.app)

    async def _deny(self, exchange: Exchange, denial: Denial) -> None:
        await exchange.run(self.pages.denial(exchange.request, denial))

    def _session(self, exchange: Exchange) -> Session | None:
        cookie = exchange.cookie()
        return None if cookie is None else self.sessions.find(cookie)
