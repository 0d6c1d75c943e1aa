"""What guards the site: headers, names it answers to, signed cookies, tokens in forms, and rates."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request, Response
from limits import RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tendsto.site.site import Site

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_READS, _WRITES = RateLimitItemPerMinute(600), RateLimitItemPerMinute(30)
_MAILS, _MAILS_TO_ONE = RateLimitItemPerHour(20), RateLimitItemPerHour(3)
_VISITOR, _ADMIN = "visitor", "admin"
_A_YEAR = 365 * 24 * 3600


class SecureHeaders:
    """Adds `HEADERS` to every response that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, guarded)


class Rates:
    """Counts requests by client: what writes or sends mail always, what reads only where others can reach the site."""

    def __init__(self, public: bool) -> None:
        self.public = public
        self.limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, request: Request) -> None:
        """**Raises** `HTTPException` (429) where the client asks too often."""
        client = request.client.host if request.client else ""
        if request.method in ("GET", "HEAD"):
            allowed = not self.public or self.limiter.hit(_READS, "read", client)
        else:
            allowed = self.limiter.hit(_WRITES, "write", client)
        if not allowed:
            raise HTTPException(429, "Too many requests; wait a minute.", {"Retry-After": "60"})

    def check_mail(self, request: Request, address: str) -> None:
        """**Raises** `HTTPException` (429) where the client asks for too many mails, or for too many to one address."""
        client = request.client.host if request.client else ""
        if not (self.limiter.hit(_MAILS_TO_ONE, "mail to", address) and self.limiter.hit(_MAILS, "mail", client)):
            raise HTTPException(429, "Too many mails were asked for; wait an hour.", {"Retry-After": "3600"})


def site_of(request: Request) -> Site:
    """The site that answers `request`."""
    site: Site = request.app.state.site
    return site


def limit_rate(request: Request) -> None:
    """Refuse clients that ask too often."""
    request.app.state.rates.check(request)


def visitor_of(request: Request) -> str:
    """Who asks, by a random cookie that only this site can have made; a new one if there is none."""
    name, _, signature = request.cookies.get(_VISITOR, "").partition(".")
    if name and hmac.compare_digest(signature.encode(), sign(request, f"visitor:{name}").encode()):
        return name
    if not hasattr(request.state, "new_visitor"):
        request.state.new_visitor = secrets.token_urlsafe(16)
    return str(request.state.new_visitor)


def form_token(request: Request) -> str:
    """What a form of this visitor's page carries, so that no other site can send it for them."""
    return sign(request, f"csrf:{visitor_of(request)}")


async def check_form(request: Request) -> None:
    """Refuse a form that did not come from a page of this site."""
    if request.method in ("GET", "HEAD"):
        return
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    token = (await request.form()).get("csrf")
    if foreign or not isinstance(token, str) or not hmac.compare_digest(token.encode(), form_token(request).encode()):
        raise HTTPException(403, "This form is stale or came from elsewhere: open its page again.")


def is_admin(request: Request) -> bool:
    """Whether the visitor gave the administrator's token, or need not."""
    site = site_of(request)
    return not site.settings.public or hmac.compare_digest(
        request.cookies.get(_ADMIN, "").encode(), _admin_cookie(request).encode()
    )


def sign_in(request: Request, response: Response, token: str) -> bool:
    """Let the visitor run claims if `token` is the administrator's; say whether it is."""
    right = hmac.compare_digest(token.strip().encode(), site_of(request).settings.secret("admin-token").encode())
    if right:
        _set(request, response, _ADMIN, _admin_cookie(request))
    return right


def keep_visitor(request: Request, response: Response) -> None:
    """Give a new visitor their cookie."""
    if name := getattr(request.state, "new_visitor", None):
        _set(request, response, _VISITOR, f"{name}.{sign(request, f'visitor:{name}')}")


def sign(request: Request, message: str) -> str:
    """The signature of `message` under the site's secret."""
    return hmac.new(request.app.state.secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def _admin_cookie(request: Request) -> str:
    token = site_of(request).settings.secret("admin-token")
    return sign(request, f"admin:{visitor_of(request)}:{token}")


def _set(request: Request, response: Response, name: str, value: str) -> None:
    secure = site_of(request).settings.address.startswith("https:")
    response.set_cookie(name, value, max_age=_A_YEAR, httponly=True, secure=secure, samesite="lax")


TheSite = Annotated[Site, Depends(site_of)]
Guards: list[Any] = [Depends(limit_rate), Depends(check_form)]
