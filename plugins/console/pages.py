"""Renders templates with what every page shows: navigation, person, pause banner, CSRF token, flash line.

Knows Jinja and the overview; what a page is about comes from its own module.
"""

import hashlib
import secrets
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from bot.plugin_api import Bot
from plugins.console import words
from plugins.console.guard import BROWSER_COOKIE, Guard, set_cookie
from plugins.console.settings import ConsoleSettings

MOUNT = "/plugins/console"
HERE = Path(__file__).parent

# What a redirect may say on the next page; only the key travels in the address.
FLASHES = {
    "accept": "Accepted. Thank you, it counts as an example.",
    "override": "Label saved. It counts as an example.",
    "handoff": "Handed off. A person takes over from here.",
    "edit": "Summary saved.",
    "accept-summary": "Summary accepted.",
    "already": "This click had been recorded before; nothing was added.",
    "summary": "Summary made.",
    "suggest": "Suggestion made.",
    "promoted": "The adapter is live.",
    "approved": "Your approval is noted. The adapter goes live once the others who are needed approve it too.",
    "rolled-back": "Rolled back.",
    "started": "Training run queued.",
    "cancelled": "The run was asked to stop.",
    "settled": "Settled. The next training run learns from your answer.",
    "dismissed": "Dismissed. The examples stay as they are.",
    "paused": "Suggestions are paused.",
    "resumed": "Suggestions are on again.",
    "correction": "Thank you. It takes effect once somebody has reviewed it, on the privacy page.",
    "correction-approved": "Approved, and in force. Stored texts are masked anew in the background.",
    "correction-rejected": "Rejected. Its words were deleted.",
    "erased": "Erased. The audit log says what was taken away, not whose it was.",
    "actor": "Your name is saved in this browser.",
}


class Pages:
    """Builds every response of the console."""

    def __init__(self, bot: Bot, settings: ConsoleSettings, guard: Guard) -> None:
        self._bot = bot
        self._guard = guard
        self.settings = settings
        self._environment = _build_environment()

    async def render(self, request: Request, template: str, *, status_code: int = 200, **context: Any) -> Response:
        """Render a page inside the frame."""
        overview = await self._bot.inbox.get_overview()
        return self._respond(request, template, status_code=status_code, overview=overview, **context)

    def render_bare(self, request: Request, template: str, *, status_code: int, **context: Any) -> Response:
        """Render a page that must not ask the core anything: errors and the login."""
        return self._respond(request, template, status_code=status_code, overview=None, **context)

    def redirect(self, request: Request, path: str, *, flash: str = "") -> Response:
        """Answer a post with the page to show next."""
        query = f"?done={flash}" if flash else ""
        return RedirectResponse(f"{get_base(request)}{path}{query}", status_code=303)

    def _respond(self, request: Request, template: str, *, status_code: int, **context: Any) -> Response:
        browser = request.cookies.get(BROWSER_COOKIE, "")
        is_new = len(browser) < 20
        browser = secrets.token_urlsafe(18) if is_new else browser
        frame = {
            "base": get_base(request),
            "csrf": self._guard.build_csrf_token(browser),
            "stamp": self._guard.build_stamp(),
            "new_key": lambda: str(uuid.uuid4()),
            "actor": self._guard.get_actor(request),
            "has_token": self._guard.has_token,
            "flash": FLASHES.get(request.query_params.get("done", "")),
            "ago": partial(words.say_ago, now=datetime.now(UTC)),
            "section": "",
            "refresh_s": 0,
        }
        html = self._environment.get_template(template).render({**frame, **context})
        response = HTMLResponse(html, status_code=status_code, headers={"Cache-Control": "no-store"})
        if is_new:
            set_cookie(response, BROWSER_COOKIE, browser, is_secure=request.url.scheme == "https")
        return response


def get_base(request: Request) -> str:
    """Return the path under which the console is mounted, as the browser sees it."""
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return root if root.endswith(MOUNT) else root + MOUNT


def load_static() -> dict[str, tuple[bytes, str]]:
    """Return the static files: name to (content, media type)."""
    types = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
    files = sorted((HERE / "static").iterdir())
    return {path.name: (path.read_bytes(), types[path.suffix]) for path in files if path.suffix in types}


def _build_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content = b"".join(body for body, _ in load_static().values())
    environment.globals.update(
        version=hashlib.sha256(content).hexdigest()[:10],
        words=words,
        say_confidence=words.say_confidence,
        percent=words.say_percent,
        date=words.say_date,
        digest=words.say_digest,
        duration=words.say_duration,
        metric=words.say_metric,
        metric_name=words.say_metric_name,
    )
    return environment
