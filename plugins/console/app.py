"""The console as a plugin: puts guard, pages and routes together.

Holds no page of its own beyond static files, the person's name, the login and "not found".
"""

from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bot.plugin_api import Bot, NotFoundError
from plugins.console.adapters import AdapterPages
from plugins.console.forms import FormError, read_form
from plugins.console.guard import ACTOR_COOKIE, SESSION_COOKIE, AccessError, Guard, clean_actor, encode_actor, set_cookie
from plugins.console.inbox import InboxPages
from plugins.console.pages import Pages, get_base, load_static
from plugins.console.privacy import PrivacyPages
from plugins.console.review import ReviewPages
from plugins.console.routing import build_route_class
from plugins.console.settings import ConsoleSettings
from plugins.console.tickets import TicketPages
from plugins.console.training import TrainingPages

_YEAR_S = 365 * 86400


class ConsolePlugin:
    """Implements `bot.plugin_api.Plugin`."""

    def __init__(self, bot: Bot, settings: ConsoleSettings) -> None:
        self._guard = Guard(settings)
        self._pages = Pages(bot, settings, self._guard)
        self._static = load_static()
        self._router = APIRouter(route_class=build_route_class(self._guard, self._pages), include_in_schema=False)
        for pages in (InboxPages, TicketPages, ReviewPages, AdapterPages, TrainingPages, PrivacyPages):
            pages(bot, self._pages, self._guard).add_to(self._router)
        self._add_own_routes()

    @property
    def router(self) -> APIRouter:
        """All pages, mounted at /plugins/console."""
        return self._router

    async def start(self) -> None:
        """Nothing to open: the host's server serves the routes."""

    async def stop(self) -> None:
        """Nothing to close: event streams end by themselves within seconds."""

    def _add_own_routes(self) -> None:
        add = self._router.add_api_route
        add("/static/{name}", self.send_static, methods=["GET"])
        add("/login", self.show_login, methods=["GET"])
        add("/login", self.log_in, methods=["POST"])
        add("/logout", self.log_out, methods=["POST"])
        add("/actor", self.set_actor, methods=["POST"])
        add("/{path:path}", self.refuse_unknown, methods=["GET", "POST"])

    async def send_static(self, request: Request, name: str) -> Response:
        """Send a style sheet, script or icon. The address carries the content's version, so it may be kept."""
        if name not in self._static:
            raise NotFoundError("There is no such file.")
        body, media_type = self._static[name]
        keep = "public, max-age=31536000, immutable" if "v" in request.query_params else "no-cache"
        return Response(body, media_type=media_type, headers={"Cache-Control": keep})

    async def show_login(self, request: Request) -> Response:
        """Show the access token form."""
        if not self._guard.has_token:
            return self._pages.redirect(request, "/")
        return self._pages.render_bare(request, "login.html", status_code=200, message="", next_path="")

    async def log_in(self, request: Request) -> Response:
        """Check the token and go where the person wanted to go."""
        form = await read_form(request)
        wanted = _keep_own_path(form.get("next", ""), get_base(request))
        response = RedirectResponse(wanted, status_code=303)
        try:
            self._guard.log_in(form.get("token", ""), response, is_secure=request.url.scheme == "https")
        except AccessError as error:
            return self._pages.render_bare(request, "login.html", status_code=403, message=str(error), next_path=wanted)
        return response

    async def log_out(self, request: Request) -> Response:
        """Forget the session."""
        response = self._pages.redirect(request, "/login")
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response

    async def set_actor(self, request: Request) -> Response:
        """Keep the person's name in their browser."""
        form = await read_form(request)
        name = clean_actor(form.get("actor", ""))
        if not name:
            raise FormError("Enter your name first, then save.")
        wanted = _keep_own_path(form.get("next", ""), get_base(request))
        response = RedirectResponse(f"{wanted}?done=actor", status_code=303)
        set_cookie(response, ACTOR_COOKIE, encode_actor(name), is_secure=request.url.scheme == "https", max_age=_YEAR_S)
        return response

    async def refuse_unknown(self, path: str) -> Response:  # noqa: ARG002  the framework hands it over by name
        """Answer an address that is none of ours."""
        raise NotFoundError("There is no such page.")


def _keep_own_path(wanted: str, base: str) -> str:
    """Return `wanted` where it is a page of the console, else the inbox: no open redirect."""
    path = urlsplit(wanted).path
    is_own = wanted.startswith(f"{base}/") and ".." not in path and "\\" not in path and "//" not in path
    return path if is_own else f"{base}/"
