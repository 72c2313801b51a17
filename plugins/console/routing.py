"""The route class around every page: access checks first, friendly errors after, security headers always.

Knows no page; `build_route_class` binds it to one console.
"""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from bot.plugin_api import BotError, BusyError, ConflictError, NotFoundError
from plugins.console.forms import read_form
from plugins.console.guard import HEADERS, AccessError, Guard, LoginRequiredError
from plugins.console.pages import Pages

logger = logging.getLogger(__name__)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_OPEN_PATHS = ("/login", "/static/")


def build_route_class(guard: Guard, pages: Pages) -> type[APIRoute]:
    """Return a route class that guards and renders with these."""

    class ConsoleRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                response = await _answer(request, inner, guard, pages=pages)
                for name, value in HEADERS.items():
                    response.headers.setdefault(name, value)
                return response

            return handle

    return ConsoleRoute


async def _answer(request: Request, inner: Handler, guard: Guard, *, pages: Pages) -> Response:
    try:
        guard.check_place(request)
        if not any(part in request.url.path for part in _OPEN_PATHS):
            guard.check_session(request)
        if request.method == "POST":
            guard.check_post(request, (await read_form(request)).get("csrf", ""))
        return await inner(request)
    except LoginRequiredError:
        return pages.render_bare(request, "login.html", status_code=401, message="", next_path=request.url.path)
    except RequestValidationError:
        return _render_error(request, pages, 404, sentence="There is no such page.")
    except BotError as error:
        response = _render_error(request, pages, _get_status(error), sentence=str(error))
        if isinstance(error, BusyError):
            response.headers["Retry-After"] = str(error.retry_after_s)
        return response
    except Exception as error:  # any other fault: a page that says so, the cause in the log
        logger.error("the console failed to answer: %s", type(error).__name__, exc_info=error)  # noqa: TRY400
        return _render_error(request, pages, 500, sentence="Something went wrong on our side; the log has the details.")


def _get_status(error: BotError) -> int:
    if isinstance(error, AccessError):
        return 403
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, BusyError):
        return 429
    return 409 if isinstance(error, ConflictError) else 400


def _render_error(request: Request, pages: Pages, status: int, *, sentence: str) -> Response:
    titles = {403: "Not allowed", 404: "Not found", 409: "Not now", 429: "Too busy", 500: "That did not work"}
    title = titles.get(status, "Please check")
    return pages.render_bare(request, "error.html", status_code=status, title=title, sentence=_make_sentence(sentence))


def _make_sentence(text: str) -> str:
    text = text.strip() or "The request was refused."
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
