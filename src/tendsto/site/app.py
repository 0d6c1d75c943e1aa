"""The web application: every route of a site behind the same guards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tendsto import __version__
from tendsto.site import api, compare_pages, mail_pages, pages, paper_pages, run_pages
from tendsto.site.answers import note
from tendsto.site.security import Rates, SecureHeaders
from tendsto.site.site import Site


def create_app(site: Site) -> FastAPI:
    """The application that serves `site`; its queue runs while the application does."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        site.start()
        yield
        site.stop()

    app = FastAPI(
        title="Tendsto",
        version=__version__,
        description="Papers, their claims, and the verdicts on them.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    app.state.site, app.state.secret, app.state.rates = (
        site,
        site.settings.secret("secret"),
        Rates(site.settings.public),
    )
    app.include_router(api.router)
    files = [module.files for module in (pages, paper_pages, compare_pages, mail_pages)]
    for router in [*files, *(module.router for module in (pages, paper_pages, compare_pages, run_pages, mail_pages))]:
        app.include_router(router, include_in_schema=False)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=6)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=site.settings.hosts)
    app.add_middleware(SecureHeaders)

    @app.exception_handler(StarletteHTTPException)
    async def tell(request: Request, error: StarletteHTTPException) -> Response:
        headers = dict(getattr(error, "headers", None) or {})
        if request.url.path.startswith("/api/"):
            return JSONResponse({"detail": error.detail}, error.status_code, headers)
        return note(request, f"{error.status_code}", str(error.detail), status=error.status_code, headers=headers)

    return app
