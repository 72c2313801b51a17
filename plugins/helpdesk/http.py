"""JSON over HTTP for helpdesk clients: a budget of requests, and answers sorted into refusals and "try later".

Neither bodies nor credentials reach a message or a log; knows no helpdesk.
"""

import logging
import math
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from bot.plugin_api import RetryLaterError
from plugins.helpdesk.client import Clock, GoneError, HelpdeskError, StaleError

TIMEOUT_S = 20.0
OUTAGE_PAUSE_S = 30.0
DEFAULT_RETRY_AFTER_S = 60.0
LONGEST_RETRY_AFTER_S = 3600.0
"""Whatever an answer says, it is asked again after an hour: a wrong header must not hold up everything for days."""
REFUSED_PAUSE_S = 60.0
WARN_EVERY_S = 60.0
LONGEST_WAIT_S = 2.0
RESERVED_SHARE = 0.1
RESERVE_PAUSE_S = 10.0
_LIMIT_HEADERS = (("ratelimit-limit", "ratelimit-remaining"), ("x-rate-limit", "x-rate-limit-remaining"))
_MINUTE = timedelta(minutes=1)
_LATER = frozenset({httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_EARLY})
logger = logging.getLogger(__name__)


class RateBudget:
    """At most `per_minute` requests in any minute (0: no limit of our own), and none while the helpdesk asked for a pause.

    Where the helpdesk tells what is left of its limit, the last tenth is left to others.
    """

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._sent: deque[datetime] = deque()
        self._blocked_until: datetime | None = None

    def block(self, seconds: float) -> None:
        """Send nothing for so long; a shorter pause does not shorten a longer one."""
        until = self._clock.now() + timedelta(seconds=seconds)
        self._blocked_until = until if self._blocked_until is None else max(until, self._blocked_until)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Pause where an answer says that little is left of the helpdesk's limit."""
        for limit_name, left_name in _LIMIT_HEADERS:
            limit, left = headers.get(limit_name, ""), headers.get(left_name, "")
            if limit.isdecimal() and left.isdecimal():
                if int(left) < RESERVED_SHARE * int(limit):
                    reset = headers.get("ratelimit-reset", "")
                    self.block(min(float(reset), 60.0) if reset.isdecimal() else RESERVE_PAUSE_S)
                return

    async def spend(self) -> None:
        """Count one request. Waits a moment where that is enough; raises RetryLaterError where it is not."""
        while (wait_s := self._get_wait_s()) > 0:
            if wait_s > LONGEST_WAIT_S:
                raise RetryLaterError("the budget of requests to the helpdesk is spent", after_s=wait_s)
            await self._clock.sleep(wait_s)
        if self._per_minute:
            self._sent.append(self._clock.now())

    def _get_wait_s(self) -> float:
        now = self._clock.now()
        if self._blocked_until is not None and now < self._blocked_until:
            return (self._blocked_until - now).total_seconds()
        while self._sent and now - self._sent[0] >= _MINUTE:
            self._sent.popleft()
        if not self._per_minute or len(self._sent) < self._per_minute:
            return 0.0
        return (self._sent[0] + _MINUTE - now).total_seconds()


class JsonApi:
    """Requests to one helpdesk. `headers` and `auth` hold the credentials and go nowhere else."""

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        per_minute: int,
        headers: Mapping[str, str] | None = None,
        auth: httpx.Auth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._clock = clock
        self._budget = RateBudget(per_minute, clock)
        self._warned_at: datetime | None = None
        # Redirects are not followed: a redirected write turns into a read, and credentials must not travel to another host.
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=dict(headers or {}), auth=auth, transport=transport, timeout=TIMEOUT_S
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, *, params: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        """Return the JSON object of an answer. Raises what `send` raises."""
        found = await self.send("GET", path, params=params)
        if isinstance(found, dict):
            return found
        raise self._put_off(f"the helpdesk answered GET {path} with something that is no JSON object: check its address")

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        expects_json: bool = True,
    ) -> Any:
        """Send a request and return the answer's JSON, None where it has none. `content` is a body that is signed byte by byte.

        Raises GoneError (404, 410), StaleError (409, 412), HelpdeskError (other refusals of this request), and RetryLaterError for what is
        not about this request: no answer or none that can be read, 401, 408, 425, 429, 5xx, a redirection.
        """
        await self._budget.spend()
        try:
            answer = await self._http.request(
                method, path, json=body, params=dict(params) if params else None, content=content, headers=dict(headers or {})
            )
        except httpx.RequestError as error:
            message = f"no answer from the helpdesk to {method} ({type(error).__name__})"
            raise RetryLaterError(message, after_s=OUTAGE_PAUSE_S) from None
        self._budget.heed(answer.headers)
        self._check(answer, f"{method} {path}")
        if not answer.content or not expects_json:
            return None
        try:
            return answer.json()
        except (ValueError, RecursionError):
            message = f"the helpdesk answered {method} {path} with something that is not JSON: check its address"
            raise self._put_off(message) from None

    def _check(self, answer: httpx.Response, what: str) -> None:
        status = answer.status_code
        if status == httpx.codes.TOO_MANY_REQUESTS:
            after_s = read_retry_after(answer.headers.get("retry-after"), self._clock.now(), default_s=DEFAULT_RETRY_AFTER_S)
            self._budget.block(after_s)
            raise RetryLaterError("the helpdesk asks for fewer requests", after_s=after_s)
        if status == httpx.codes.UNAUTHORIZED:  # so will be every other request, until somebody mends it
            self._budget.block(REFUSED_PAUSE_S)
            raise self._put_off(f"{what}: the helpdesk answered 401; check the credentials", after_s=REFUSED_PAUSE_S)
        if answer.is_redirect:
            raise self._put_off(f"{what}: the helpdesk answered {status}, which is not followed; check its address")
        if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _LATER:
            after_s = read_retry_after(answer.headers.get("retry-after"), self._clock.now(), default_s=OUTAGE_PAUSE_S)
            raise RetryLaterError(f"the helpdesk answered {status}", after_s=after_s)
        if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
            raise GoneError(f"{what}: there is nothing there")
        if status in {httpx.codes.CONFLICT, httpx.codes.PRECONDITION_FAILED}:
            raise StaleError(f"{what}: it was changed in the meantime")
        if status == httpx.codes.FORBIDDEN:
            raise HelpdeskError(f"{what}: the helpdesk answered {status}; check what the credentials may do")
        if not answer.is_success:
            raise HelpdeskError(f"{what}: the helpdesk answered {status}")

    def _put_off(self, message: str, *, after_s: float = OUTAGE_PAUSE_S) -> RetryLaterError:
        """Return the error of what somebody has to mend; a line in the log says so, once a minute."""
        now = self._clock.now()
        if self._warned_at is None or now - self._warned_at >= timedelta(seconds=WARN_EVERY_S):
            self._warned_at = now
            logger.warning("%s", message)
        return RetryLaterError(message, after_s=after_s)


def read_retry_after(value: str | None, now: datetime, *, default_s: float) -> float:
    """Return the seconds a Retry-After header asks for, given as seconds or as a date; at least one, at most an hour."""
    if not value:
        return default_s
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return default_s
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return default_s if math.isnan(seconds) else min(max(1.0, seconds), LONGEST_RETRY_AFTER_S)
