"""Who may see and post to the console: client address and host, shared token, CSRF token and origin, signed times.

Pure checks over a request; knows nothing of pages or tickets. Refusals are `AccessError`s with one sentence.
"""

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from bot.plugin_api import BotError
from plugins.console.settings import ConsoleSettings

BROWSER_COOKIE = "understudy_console_browser"
SESSION_COOKIE = "understudy_console_session"
ACTOR_COOKIE = "understudy_console_actor"
MAX_ACTOR_CHARS = 60
MAX_DECISION_MS = 8 * 3600 * 1000
_MAX_FAILURES, _FAILURE_WINDOW_S = 10, 300.0
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class AccessError(BotError):
    """A request from somebody who may not make it."""


class LoginRequiredError(BotError):
    """The access token has not been entered yet, or too long ago."""


class Guard:
    """Checks requests against the settings. Its signing key lasts as long as the access token, or as the process without one."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        token = settings.access_token
        seed = secrets.token_bytes(32) if token is None else hashlib.sha256(token.get_secret_value().encode()).digest()
        self._key = hmac.new(seed, b"understudy console", hashlib.sha256).digest()
        self._failures: list[float] = []

    @property
    def has_token(self) -> bool:
        """Whether people have to enter an access token."""
        return self._settings.access_token is not None

    def check_place(self, request: Request) -> None:
        """Without a token, serve this machine alone, under its own name (another name may be a rebound foreign site)."""
        if self.has_token:
            return
        advice = "set UNDERSTUDY_CONSOLE_ACCESS_TOKEN to open it to others"
        if request.client is not None and not _is_loopback(request.client.host):
            raise AccessError(f"The console has no access token and therefore answers this machine alone: {advice}.")
        if (request.url.hostname or "") not in _LOCAL_NAMES:
            raise AccessError(f"The console has no access token and therefore answers under the name localhost alone: {advice}.")

    def check_session(self, request: Request) -> None:
        """Raise LoginRequiredError unless no token is set or the session cookie is valid."""
        if self.has_token and not self._is_session(request.cookies.get(SESSION_COOKIE, "")):
            raise LoginRequiredError("Enter the access token to open the console.")

    def _is_session(self, cookie: str) -> bool:
        ends_at, _, signature = cookie.partition(".")
        is_signed = hmac.compare_digest(signature.encode(), self._sign("session", ends_at).encode())
        return is_signed and ends_at.isdecimal() and int(ends_at) > time.time()

    def log_in(self, given: str, response: Response, *, is_secure: bool) -> None:
        """Set the session cookie on `response`. Raises AccessError for a wrong token, and for any after ten wrong ones in five minutes."""
        token, now = self._settings.access_token, time.monotonic()
        self._failures = [at for at in self._failures if now - at < _FAILURE_WINDOW_S]
        if len(self._failures) >= _MAX_FAILURES:
            raise AccessError("Too many wrong tokens; wait five minutes and try again.")
        if token is None or not hmac.compare_digest(given.strip().encode(), token.get_secret_value().encode()):
            self._failures.append(now)
            raise AccessError("That is not the access token; ask whoever runs Understudy for it.")
        seconds = self._settings.session_hours * 3600
        ends_at = str(int(time.time()) + seconds)
        set_cookie(response, SESSION_COOKIE, f"{ends_at}.{self._sign('session', ends_at)}", is_secure=is_secure, max_age=seconds)

    def check_post(self, request: Request, token: str) -> None:
        """Refuse a post that does not come from a form of ours."""
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        is_foreign = site not in {None, "same-origin", "none"} or (
            origin is not None and urlsplit(origin).netloc != request.url.netloc
        )
        browser = request.cookies.get(BROWSER_COOKIE, "")
        if is_foreign or not browser or not hmac.compare_digest(token.encode(), self._sign("csrf", browser).encode()):
            raise AccessError("This form has expired or came from another site: go back, reload the page and try again.")

    def build_csrf_token(self, browser: str) -> str:
        """Return the token that forms carry for the browser of that cookie."""
        return self._sign("csrf", browser)

    def build_stamp(self) -> str:
        """Return the present time, signed, for a form to carry."""
        now_ms = str(int(time.time() * 1000))
        return f"{now_ms}.{self._sign('stamp', now_ms)}"

    def read_stamp(self, stamp: str) -> int | None:
        """Return the milliseconds since a stamp was built, or None where it is not ours or older than a working day."""
        built_ms, _, signature = stamp.partition(".")
        if not built_ms.isdecimal() or not hmac.compare_digest(signature.encode(), self._sign("stamp", built_ms).encode()):
            return None
        elapsed_ms = int(time.time() * 1000) - int(built_ms)
        return elapsed_ms if 0 <= elapsed_ms <= MAX_DECISION_MS else None

    def get_actor(self, request: Request) -> str:
        """Return the name a person entered, or the one from the settings."""
        return clean_actor(unquote(request.cookies.get(ACTOR_COOKIE, ""))) or self._settings.actor

    def is_named(self, request: Request) -> bool:
        """Whether a person, or whoever set the console up, said who acts here: a shared token alone does not."""
        return bool(clean_actor(unquote(request.cookies.get(ACTOR_COOKIE, "")))) or "actor" in self._settings.model_fields_set

    def _sign(self, purpose: str, value: str) -> str:
        return hmac.new(self._key, f"{purpose}:{value}".encode(), hashlib.sha256).hexdigest()[:40]


def clean_actor(name: str) -> str:
    """Return a name without control characters, cut to length."""
    return " ".join("".join(char for char in name if char.isprintable()).split())[:MAX_ACTOR_CHARS]


def encode_actor(name: str) -> str:
    """Return a name as a cookie may hold it."""
    return quote(name, safe="")


def set_cookie(response: Response, name: str, value: str, *, is_secure: bool, max_age: int | None = None) -> None:
    """Set a cookie scripts cannot read. Lax, so that a link from Slack opens the page; posts are guarded by token and origin."""
    response.set_cookie(name, value, max_age=max_age, httponly=True, samesite="lax", secure=is_secure, path="/")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
