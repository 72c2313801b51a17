"""JSON over HTTP for helpdesk clients: a budget of requests, and answers sorted into refusals and "try later".

Neither bodies nor credentials reach a message or a log; knows no helpdesk.
"""

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
LONGEST_WAIT_S = 2.0
RESERVED_SHARE = 0.1
RESERVE_PAUSE_S = 10.0
_LIMIT_HEADERS = (("ratelimit-limit", "ratelimit-remaining"), ("x-rate-limit", "x-rate-limit-remaining"))
_MINUTE = timedelta(minutes=1)


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
        # Redirects are not followed: a redirected write turns into a read, and credentials must not travel to another host.
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=dict(headers or {}), auth=auth, transport=transport, timeout=TIMEOUT_S
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, *, params: Mapping[str, str] | None = None) -> Any:
        """Return the JSON of an answer."""
        return await self.send("GET", path, params=params)

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

        Raises GoneError (404, 410), StaleError (409, 412), RetryLaterError (no answer, 429, 5xx) and HelpdeskError (the rest).
        """
        await self._budget.spend()
        try:
            answer = await self._http.request(
                method, path, json=body, params=dict(params) if params else None, content=content, headers=dict(headers or {})
            )
        except httpx.TransportError as error:
            message = f"no answer from the helpdesk to {method} ({type(error).__name__})"
            raise RetryLaterError(message, after_s=OUTAGE_PAUSE_S) from None
        self._budget.heed(answer.headers)
        self._check(answer, f"{method} {path}")
        if not answer.content or not expects_json:
            return None
        try:
            return answer.json()
        except ValueError:
            message = f"the helpdesk answered {method} {path} with something that is not JSON: check its address"
            raise HelpdeskError(message) from None

    def _check(self, answer: httpx.Response, what: str) -> None:
        status = answer.status_code
        if status == httpx.codes.TOO_MANY_REQUESTS:
            after_s = read_retry_after(answer.headers.get("retry-after"), self._clock.now(), default_s=DEFAULT_RETRY_AFTER_S)
            self._budget.block(after_s)
            raise RetryLaterError("the helpdesk asks for fewer requests", after_s=after_s)
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            after_s = read_retry_after(answer.headers.get("retry-after"), self._clock.now(), default_s=OUTAGE_PAUSE_S)
            raise RetryLaterError(f"the helpdesk answered {status}", after_s=after_s)
        if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
            raise GoneError(f"{what}: there is nothing there")
        if status in {httpx.codes.CONFLICT, httpx.codes.PRECONDITION_FAILED}:
            raise StaleError(f"{what}: it was changed in the meantime")
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise HelpdeskError(f"{what}: the helpdesk answered {status}; check the credentials and what they may do")
        if not answer.is_success:
            raise HelpdeskError(f"{what}: the helpdesk answered {status}")


def read_retry_after(value: str | None, now: datetime, *, default_s: float) -> float:
    """Return the seconds a Retry-After header asks for, given as seconds or as a date; at least one."""
    if not value:
        return default_s
    try:
        return max(1.0, float(value))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return default_s
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(1.0, (at - now).total_seconds())
