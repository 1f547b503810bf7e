"""The page's HTTP face: routes, logins, headers, and errors that are sentences."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit.sql_records import SqlRecords
from webhook.page.access import Access, Reader, reader_of
from webhook.page.approvals import approvals
from webhook.page.decision import Keys, decision
from webhook.page.facts import Facts
from webhook.page.filters import BadFilterError, Filters, place_text, read_filters
from webhook.page.identity import MOST_NAMESPACES, CannotAskError, Visible
from webhook.page.live import Streams, stream
from webhook.page.models import model, models
from webhook.page.overview import overview
from webhook.page.plan import plan, rule_list
from webhook.page.reading import NotReadError, Reading
from webhook.page.rendering import HERE, Templates
from webhook.page.rows import rows
from webhook.page.sessions import Sessions

_LOG = logging.getLogger("tidewaiter.page")
_PAGE = 50
_TAIL = 50
_LOGIN_BYTES = 32_768
_LOGIN_SECONDS = 10
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PUBLIC = frozenset({"/login", "/logout", "/once/{token}", "/static/{name}"})
"""Routes that show no record and need no login."""


@dataclass(frozen=True, slots=True)
class Page:
    """What the page is made of. ``secure`` says that it is behind TLS."""

    reading: Reading
    access: Access
    facts: Facts
    keys: Keys
    sessions: Sessions
    streams: Streams
    secure: bool
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def cookie(self) -> str:
        """The cookie's name: behind TLS one that no other host can set."""
        return "__Host-tidewaiter-page" if self.secure else "tidewaiter-page"

    def close(self) -> None:
        """End open streams, and the threads that read."""
        self.streams.ending.set()
        self.reading.close()


class _Headers:
    """The same headers on every answer, whatever made it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower().decode() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in _HEADERS.items() if name not in names),
                ]
            await send(message)

        await self._app(scope, receive, sent)


Handler = Callable[[Request], Awaitable[Response]]
Build = Callable[[SqlRecords, Filters, Visible, list[str]], dict[str, Any] | None]


class _Routes:
    """The handlers. Every one but those of ``PUBLIC`` asks first who reads."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._templates = Templates()

    # Reading

    async def overview(self, request: Request) -> Response:
        facts = self._page.facts
        return await self._shown(
            request, "overview.html", "24h",
            lambda records, filters, visible, seen: overview(records, filters, visible, facts, seen),
        )  # fmt: skip

    async def decisions(self, request: Request) -> Response:
        def build(records: SqlRecords, filters: Filters, visible: Visible, _seen: list[str]) -> dict[str, Any]:
            found = records.page(filters.selection(visible.namespaces), _PAGE, filters.before)
            following = place_text(found.following)
            return {
                "rows": rows(found.entries),
                "older": filters.query(before=following) if following else "",
                "looked_at": found.looked_at if len(found.entries) < _PAGE and following else 0,
                "reached": datetime.fromtimestamp(found.following.time / 1000, UTC) if found.following else None,
            }

        return await self._shown(request, "decisions.html", "7d", build)

    async def decision(self, request: Request) -> Response:
        page, identifier = self._page, request.path_params["identifier"]
        return await self._shown(
            request, "decision.html", "all",
            lambda records, _filters, visible, _seen: decision(records, identifier, visible, page.facts, page.keys),
            f"There is no decision {identifier[:80]}, or none that you may see.",
        )  # fmt: skip

    async def models(self, request: Request) -> Response:
        return await self._shown(
            request, "models.html", "30d", lambda records, filters, visible, _seen: models(records, filters, visible)
        )

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        return await self._shown(
            request, "model.html", "all",
            lambda records, filters, visible, _seen: model(records, name, filters, visible),
            f"There is no decision about a model {name[:80]} in this time, or none that you may see.",
        )  # fmt: skip

    async def approvals(self, request: Request) -> Response:
        by = request.query_params.get("by", "").strip()
        return await self._shown(
            request, "approvals.html", "all",
            lambda records, filters, visible, _seen: approvals(records, filters, by, visible), more=("by",),
        )  # fmt: skip

    async def rules(self, request: Request) -> Response:
        facts = self._page.facts
        return await self._shown(
            request, "rules.html", "7d",
            lambda records, filters, visible, _seen: rule_list(records, filters, visible, facts),
        )  # fmt: skip

    async def rule(self, request: Request) -> Response:
        rule, facts = request.path_params["rule"], self._page.facts
        return await self._shown(
            request, "rule.html", "7d",
            lambda records, filters, visible, _seen: plan(records, rule, filters, visible, facts),
            f"There is no rule {rule[:80]}, and no decision that you may see names one.",
        )  # fmt: skip

    async def live(self, request: Request) -> Response:
        def build(records: SqlRecords, filters: Filters, visible: Visible, _seen: list[str]) -> dict[str, Any]:
            return {"rows": rows(records.page(filters.selection(visible.namespaces), _TAIL).entries)}

        return await self._shown(request, "live.html", "24h", build)

    async def live_stream(self, request: Request) -> Response:
        page = self._page
        reader = await self._reader(request)
        filters = self._filters(request, "24h")
        allowed = await self._team(filters, reader)
        if not page.streams.enter(reader.identity.username):
            raise HTTPException(429, "Too many live views are open. Close one, and reload this.")

        async def look() -> Visible | None:
            now = await reader_of(request, page.access, page.sessions, page.cookie)
            if now is None or allowed is None:
                return now.visible if now is not None else None
            seen = now.visible.namespaces
            return Visible(allowed if seen is None else allowed & seen)

        async def events() -> Any:
            try:
                selection = filters.selection(None)
                async for event in stream(page.reading, selection, look, render, page.streams, page.clock):
                    yield event
            except CannotAskError:
                return
            finally:
                page.streams.leave(reader.identity.username)

        def render(entries: list[Any]) -> str:
            return self._templates.render(
                "rows_only.html", {"rows": rows(entries), "now": page.clock(), "filters": filters}
            )

        return StreamingResponse(events(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def _shown(
        self,
        request: Request,
        template: str,
        default_range: str,
        build: Build,
        missing: str = "",
        more: tuple[str, ...] = (),
    ) -> Response:
        """A page: who reads, what is asked, the answer of the records, and its HTML, made on the reading thread."""
        reader = await self._reader(request)
        if any(not value for _, value in request.query_params.multi_items()):
            # A form sends its empty fields too; an address that is passed on should not have them.
            kept = [(name, value) for name, value in request.query_params.multi_items() if value.strip()]
            return RedirectResponse(request.url.path + (f"?{urlencode(kept)}" if kept else ""), 303)
        filters = self._filters(request, default_range, more)
        visible = reader.visible
        of_team = await self._team(filters, reader)
        if of_team is not None:
            visible = Visible(of_team)
        seen = await self._names(reader.visible)
        values = self._common(request, reader, filters, seen)

        def made(records: SqlRecords) -> str | None:
            built = build(records, filters, visible, seen)
            return None if built is None else self._templates.render(template, values | built)

        html = await self._page.reading.ask(made)
        if html is None:
            raise HTTPException(404, missing)
        return HTMLResponse(html)

    def _common(self, request: Request, reader: Reader, filters: Filters, seen: list[str]) -> dict[str, Any]:
        facts = self._page.facts
        return {
            "reader": reader,
            "filters": filters,
            "path": request.url.path,
            "now": self._page.clock(),
            "namespaces": seen,
            "teams": sorted({team for name in seen if (team := facts.team(name))}),
            "known_rules": sorted(facts.rules),
            "sees_nothing": reader.visible.namespaces == frozenset(),
        }

    async def _reader(self, request: Request) -> Reader:
        page = self._page
        reader = await reader_of(request, page.access, page.sessions, page.cookie)
        if reader is None:
            raise HTTPException(401, "Log in first.")
        return reader

    def _filters(self, request: Request, default_range: str, more: tuple[str, ...] = ()) -> Filters:
        return read_filters(request.query_params.multi_items(), self._page.clock(), default_range, more)

    async def _team(self, filters: Filters, reader: Reader) -> frozenset[str] | None:
        """The namespaces of the team that is asked for, of those that may be seen; None where none is."""
        team = filters.get("team")
        if not team:
            return None
        names = await self._names(reader.visible)
        return frozenset(name for name in names if self._page.facts.team(name) == team)

    async def _names(self, visible: Visible) -> list[str]:
        if visible.namespaces is not None:
            return sorted(visible.namespaces)
        return [name for name in await namespace_names(self._page.reading) if name]

    # Logging in and out

    async def login(self, request: Request) -> Response:
        if request.method != "POST":
            return self._login_form(request, "", 200)
        if not _same_origin(request):
            return self._login_form(request, "The form was sent from another site. Log in here.", 403)
        try:
            async with asyncio.timeout(_LOGIN_SECONDS):
                form = await _form(request)
        except (TimeoutError, ClientDisconnect):
            return self._login_form(request, "The form did not arrive in time. Send it again.", 408)
        if form is None:
            return self._login_form(request, "That is longer than any token.", 413)
        token = form.get("token", "").strip()
        reader = await self._page.access.of_token(token)
        if reader is None:
            return self._login_form(
                request,
                "The cluster does not know this token, or it has expired. Make a new one and paste it whole.",
                401,
            )
        return self._begun(token, _local_path(form.get("next", "")))

    async def once(self, request: Request) -> Response:
        one_time = self._page.access.one_time
        if one_time is None or not one_time.take(request.path_params["token"]):
            sentence = "This address was used already, or is of an earlier start. Start the service again for another."
            return self._error(request, 401, sentence)
        return self._begun("", "/")

    async def logout(self, request: Request) -> Response:
        if not _same_origin(request):
            return self._error(request, 403, "The form was sent from another site. Log out here.")
        self._page.sessions.end(request.cookies.get(self._page.cookie, ""))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(self._page.cookie, path="/", secure=self._page.secure, httponly=True, samesite="strict")
        return answer

    def _begun(self, token: str, where: str) -> Response:
        page = self._page
        answer = RedirectResponse(where, 303)
        answer.set_cookie(
            page.cookie, page.sessions.begin(token), path="/", secure=page.secure, httponly=True, samesite="strict"
        )
        return answer

    def _login_form(self, request: Request, problem: str, status: int) -> Response:
        values = {
            "problem": problem,
            "local": self._page.access.one_time is not None,
            "next": _local_path(request.query_params.get("next", "")),
        }
        return HTMLResponse(self._templates.render("login.html", values), status)

    # What is the same for all

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        path = HERE / "static" / name
        if path.suffix not in _TYPES or path.parent != HERE / "static" or not path.is_file():
            return self._error(request, 404, "There is no such file.")
        return FileResponse(path, media_type=_TYPES[path.suffix], headers={"cache-control": "max-age=3600"})

    async def failed(self, request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            if error.status_code == HTTPStatus.UNAUTHORIZED and _wants_page(request):
                asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse("/login" + (f"?{urlencode({'next': asked})}" if asked != "/" else ""), 303)
            sentence = error.detail if error.detail != HTTPStatus(error.status_code).phrase else _PLAIN.get(
                error.status_code, "This cannot be done here."
            )  # fmt: skip
            return self._error(request, error.status_code, sentence)
        if isinstance(error, BadFilterError):
            return self._error(request, 400, str(error))
        if isinstance(error, (NotReadError, CannotAskError)):
            return self._error(request, 503, str(error))
        _LOG.error("the page %s went wrong", request.url.path, exc_info=error)
        return self._error(request, 500, "Something went wrong in Tidewaiter itself; its log says what.")

    def _error(self, _request: Request, status: int, sentence: str) -> Response:
        headers = {"www-authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
        values = {"status": status, "phrase": HTTPStatus(status).phrase, "sentence": sentence}
        return HTMLResponse(self._templates.render("error.html", values), status, headers)


_PLAIN = {
    404: "There is no such page.",
    405: "This page only shows: nothing is changed here.",
}


async def namespace_names(reading: Reading) -> list[str]:
    """The namespaces that there are decisions of."""
    return await reading.ask(lambda records: records.namespaces(MOST_NAMESPACES))


def page_app(page: Page) -> Starlette:
    """The application."""
    handlers = _Routes(page)

    def route(path: str, handler: Handler, methods: tuple[str, ...] = ("GET",)) -> Route:
        async def answered(request: Request) -> Response:
            # Here and not by Starlette, whose last handler is outside of what sets headers.
            try:
                return await handler(request)
            except Exception as error:  # noqa: BLE001  # every one becomes a page with a sentence
                return await handlers.failed(request, error)

        return Route(path, answered, methods=list(methods))

    return Starlette(
        routes=[
            route("/", handlers.overview),
            route("/decisions", handlers.decisions),
            route("/decisions/{identifier:path}", handlers.decision),
            route("/models", handlers.models),
            route("/models/{name:path}", handlers.model),
            route("/approvals", handlers.approvals),
            route("/rules", handlers.rules),
            route("/rules/{rule}", handlers.rule),
            route("/live", handlers.live),
            route("/live/stream", handlers.live_stream),
            route("/login", handlers.login, ("GET", "POST")),
            route("/logout", handlers.logout, ("POST",)),
            route("/once/{token}", handlers.once),
            route("/static/{name}", handlers.static),
        ],
        middleware=[Middleware(_Headers)],
        exception_handlers={HTTPException: handlers.failed},
    )


def _wants_page(request: Request) -> bool:
    """Whether a person is to be led to the login; a program with a token is told."""
    return "authorization" not in request.headers and "text/html" in request.headers.get("accept", "")


def _same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


def _local_path(path: str) -> str:
    """Where to go after the login: nowhere but on this page."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isascii() and path.isprintable()
    return path if plain and len(path) < 4096 and not path.startswith(("/login", "/logout", "/once")) else "/"


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of a form; None for what is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LOGIN_BYTES:
            return None
    found = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
    return {name: values[0] for name, values in found.items()}
