import logging
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from bot.plugin_api import RetryLaterError
from bot.testing import FakeClock
from plugins.helpdesk.client import GoneError, HelpdeskError, StaleError
from plugins.helpdesk.http import JsonApi, RateBudget, read_retry_after
from plugins.helpdesk.signing import (
    SignatureError,
    check_signature,
    check_window,
    parse_time,
    sign_base64,
    sign_hex,
)

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


async def ask(answer, **more):
    api = JsonApi("http://desk", clock=FakeClock(), per_minute=100, transport=httpx.MockTransport(lambda _: answer), **more)
    try:
        return await api.get("/x")
    finally:
        await api.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, GoneError), (410, GoneError), (409, StaleError), (412, StaleError), (429, RetryLaterError), (500, RetryLaterError),
        (503, RetryLaterError), (401, RetryLaterError), (302, RetryLaterError), (408, RetryLaterError), (425, RetryLaterError),
        (400, HelpdeskError), (403, HelpdeskError), (422, HelpdeskError),
    ],
)  # fmt: skip
async def test_each_refusal_has_its_error_and_quotes_nothing(status, error, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(error) as caught:
        await ask(httpx.Response(status, json={"error": "quokka"}))
    assert "quokka" not in str(caught.value) + caplog.text


async def test_answers_are_json_objects_and_a_write_may_be_answered_by_nothing():
    assert await ask(httpx.Response(200, json={"a": 1})) == {"a": 1}
    api = JsonApi("http://desk", clock=FakeClock(), per_minute=9, transport=httpx.MockTransport(lambda _: httpx.Response(204)))
    assert await api.send("PUT", "/x", body={}) is None
    await api.close()
    for answer in (httpx.Response(204), httpx.Response(200, json=["quokka"])):
        with pytest.raises(RetryLaterError, match="no JSON object"):
            await ask(answer)
    with pytest.raises(RetryLaterError, match="not JSON"):
        await ask(httpx.Response(200, text="<html>quokka"))


async def test_what_somebody_has_to_mend_is_logged_once_a_minute(caplog):
    clock = FakeClock()
    moved = httpx.MockTransport(lambda _: httpx.Response(301, headers={"location": "https://elsewhere.example/quokka"}))
    api = JsonApi("http://desk", clock=clock, per_minute=0, transport=moved)
    for _ in range(4):
        with pytest.raises(RetryLaterError, match="check its address"):
            await api.get("/x")
        clock.advance(30)
    assert len(caplog.records) == 2
    assert "quokka" not in caplog.text
    await api.close()


async def test_no_answer_is_tried_later():
    def fail(request):
        raise httpx.ConnectTimeout("quokka", request=request)

    api = JsonApi("http://desk", clock=FakeClock(), per_minute=100, transport=httpx.MockTransport(fail))
    with pytest.raises(RetryLaterError) as caught:
        await api.get("/x")
    assert caught.value.after_s > 0
    assert "quokka" not in str(caught.value)
    await api.close()


async def test_after_a_429_nothing_is_sent_until_the_pause_is_over():
    clock, sent = FakeClock(), []

    def answer(request):
        sent.append(request)
        return httpx.Response(429, headers={"Retry-After": "90"}) if len(sent) == 1 else httpx.Response(200, json={})

    api = JsonApi("http://desk", clock=clock, per_minute=100, transport=httpx.MockTransport(answer))
    for _ in range(3):
        with pytest.raises(RetryLaterError) as caught:
            await api.get("/x")
    assert len(sent) == 1
    assert caught.value.after_s == 90
    clock.advance(90)
    assert await api.get("/x") == {}
    await api.close()


async def test_budget_lets_through_so_many_a_minute_and_says_when_there_is_more():
    clock = FakeClock()
    budget = RateBudget(2, clock)
    await budget.spend()
    clock.advance(20)
    await budget.spend()
    with pytest.raises(RetryLaterError) as caught:
        await budget.spend()
    assert caught.value.after_s == 40
    clock.advance(39)
    await budget.spend()  # one second is waited for
    assert clock.now() == NOW + timedelta(seconds=60)


async def test_without_a_budget_of_our_own_there_is_no_limit():
    budget = RateBudget(0, FakeClock())
    for _ in range(20_000):
        await budget.spend()


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({"ratelimit-limit": "700", "ratelimit-remaining": "70", "ratelimit-reset": "26"}, 0),
        ({"ratelimit-limit": "700", "ratelimit-remaining": "69", "ratelimit-reset": "26"}, 26),
        ({"x-rate-limit": "700", "x-rate-limit-remaining": "0"}, 10),
        ({"x-rate-limit": "700", "x-rate-limit-remaining": "699"}, 0),
        ({"x-rate-limit": "many", "x-rate-limit-remaining": "0"}, 0),
        ({}, 0),
    ],
)
def test_the_last_tenth_of_the_helpdesks_limit_is_left_to_others(headers, pause_s):
    budget = RateBudget(0, FakeClock())
    budget.heed(headers)
    assert budget._get_wait_s() == pause_s


def test_a_shorter_pause_does_not_shorten_a_longer_one():
    clock = FakeClock()
    budget = RateBudget(2, clock)
    budget.block(100)
    budget.block(10)
    assert budget._get_wait_s() == 100


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17), ("0", 1), ("-5", 1), (None, 60), ("", 60), ("soon", 60), ("nan", 60), ("-inf", 1),
        ("inf", 3600), ("1e400", 3600), ("604800", 3600), ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Mon, 02 Mar 2026 09:02:00 GMT", 120), ("Mon, 02 Mar 2026 08:00:00 GMT", 1), ("Mon, 02 Mar 2026 09:01:00 -0000", 60),
    ],
)  # fmt: skip
def test_retry_after_is_read_as_seconds_or_as_a_date(value, seconds):
    assert read_retry_after(value, NOW, default_s=60) == seconds


@pytest.mark.parametrize(
    "text", ["2026-03-02T09:00:00Z", "2026-03-02T09:00:00.123456789Z", "1772442000", "2026-03-02T10:00:00+01:00"]
)
def test_times_of_signing_are_read_in_every_spelling(text):
    assert abs(parse_time(text) - NOW) < timedelta(seconds=1)


@pytest.mark.parametrize("text", ["", "yesterday", "9" * 30, "12:00"])
def test_a_time_that_cannot_be_read_is_a_wrong_signature(text):
    with pytest.raises(SignatureError):
        parse_time(text)


@pytest.mark.parametrize(("offset_s", "is_fine"), [(0, True), (-300, True), (300, True), (-301, False), (301, False)])
def test_window_is_open_on_both_sides(offset_s, is_fine):
    signed_at = NOW + timedelta(seconds=offset_s)
    if is_fine:
        check_window(signed_at, NOW, tolerance_s=300)
    else:
        with pytest.raises(SignatureError):
            check_window(signed_at, NOW, tolerance_s=300)


def test_signature_is_compared_whole():
    right = sign_base64("secret", b"message")
    check_signature(right, right)
    for wrong in ("", right[:-1], right.lower(), sign_hex("secret", b"message"), "ä"):
        with pytest.raises(SignatureError):
            check_signature(wrong, right)
