"""Who may see and post: place, token, origin, headers."""

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from bot.testing import FakeBot
from plugins.console import spec
from plugins.console.guard import Guard
from plugins.console.settings import ConsoleSettings
from tests.plugins.console.console_helpers import MOUNT, Console, build_app, connect, parse_forms

TOKEN = "a-token-of-some-length"


@pytest.fixture
def locked():
    return build_app(FakeBot.with_samples(), ConsoleSettings(access_token=SecretStr(TOKEN)))


async def test_other_machine_without_a_token_is_refused_with_the_setting_to_change(bot):
    async with connect(build_app(bot), client="192.0.2.7") as client:
        response = await client.get(f"{MOUNT}/")
    assert response.status_code == 403
    assert "set UNDERSTUDY_CONSOLE_ACCESS_TOKEN" in response.text
    assert "Locked out" not in response.text


async def test_foreign_host_name_on_this_machine_is_refused(bot):
    async with connect(build_app(bot), host="rebound.example.com") as client:
        assert (await client.get(f"{MOUNT}/")).status_code == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.8.8"])
async def test_every_loopback_address_is_this_machine(bot, address):
    async with connect(build_app(bot), client=address, host="localhost") as client:
        assert (await client.get(f"{MOUNT}/")).status_code == 200


async def test_with_a_token_pages_ask_for_it_and_show_nothing(locked):
    async with connect(locked, host="desk.example.com", client="192.0.2.7") as client:
        response = await client.get(f"{MOUNT}/tickets/14")
    assert response.status_code == 401
    assert "Access token" in response.text
    assert "Locked out" not in response.text


async def test_right_token_opens_the_page_that_was_wanted(locked):
    async with connect(locked, host="desk.example.com", client="192.0.2.7") as client:
        form = dict(parse_forms((await client.get(f"{MOUNT}/tickets/14")).text)[0][1])
        response = await client.post(f"{MOUNT}/login", data={**form, "token": TOKEN})
        assert response.headers["location"] == f"{MOUNT}/tickets/14"
        assert "Locked out" in (await client.get(f"{MOUNT}/tickets/14")).text
        console = Console(FakeBot(), client)
        await console.submit("/", "/logout")
        assert (await client.get(f"{MOUNT}/")).status_code == 401


async def test_wrong_token_is_refused_and_ten_of_them_close_the_door(locked):
    async with connect(locked) as client:
        form = parse_forms((await client.get(f"{MOUNT}/login")).text)[0][1]
        for _ in range(10):
            response = await client.post(f"{MOUNT}/login", data={**form, "token": "wrong"})
            assert "not the access token" in response.text
        response = await client.post(f"{MOUNT}/login", data={**form, "token": TOKEN})
    assert response.status_code == 403
    assert "wait five minutes" in response.text


@pytest.mark.parametrize(
    "wanted", ["https://evil.example.com/", "//evil.example.com", f"{MOUNT}/../../x", f"{MOUNT}//evil", "javascript:x"]
)
async def test_login_leads_nowhere_else(locked, wanted):
    async with connect(locked) as client:
        form = parse_forms((await client.get(f"{MOUNT}/login")).text)[0][1]
        response = await client.post(f"{MOUNT}/login", data={**form, "token": TOKEN, "next": wanted})
    assert response.headers["location"] == f"{MOUNT}/"


@pytest.mark.parametrize("cookie", ["9999999999.forged", "x", "9999999999.", ".", "é.é"])
async def test_forged_session_is_refused(locked, cookie):
    async with connect(locked) as client:
        headers = [(b"cookie", f"understudy_console_session={cookie}".encode())]
        assert (await client.get(f"{MOUNT}/", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example.com"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_post_from_another_site_is_refused_even_with_the_token(console, headers):
    form = next(f for _, f in parse_forms(await console.get("/tickets/14")) if f.get("kind") == "accept")
    response = await console.client.post(f"{MOUNT}/tickets/14/decision", data=form, headers=headers)
    assert response.status_code == 403
    assert console.bot.feedback == []


@pytest.mark.parametrize("csrf", ["", "wrong", "é"])
async def test_post_without_the_right_csrf_token_is_refused(console, csrf):
    response = await console.submit("/tickets/14", "/tickets/14/decision", status=403, kind="accept", changes={"csrf": csrf})
    assert "expired or came from another site" in response.text
    assert console.bot.feedback == []


async def test_post_without_the_browser_cookie_is_refused(console):
    form = next(f for _, f in parse_forms(await console.get("/tickets/14")) if f.get("kind") == "accept")
    console.client.cookies.clear()
    assert (await console.client.post(f"{MOUNT}/tickets/14/decision", data=form)).status_code == 403


async def test_post_from_our_own_origin_is_taken(console):
    form = next(f for _, f in parse_forms(await console.get("/tickets/14")) if f.get("kind") == "accept")
    headers = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
    assert (await console.client.post(f"{MOUNT}/tickets/14/decision", data=form, headers=headers)).status_code == 303


async def test_body_that_is_no_form_is_refused(console):
    response = await console.client.post(f"{MOUNT}/training/pause", json={"paused": "yes"})
    assert response.status_code == 400
    assert not console.bot.is_paused


@pytest.mark.parametrize("path", ["/", "/tickets/14", "/nope", "/static/console.js"])
async def test_every_answer_carries_the_security_headers(console, path):
    headers = (await console.client.get(MOUNT + path)).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


async def test_pages_hold_no_inline_script_or_style(console):
    for path in ("/", "/tickets/14", "/adapters", "/training"):
        html = await console.get(path)
        assert " style=" not in html
        assert " onclick=" not in html
        assert "<script>" not in html


async def test_cookies_are_out_of_reach_of_scripts(console):
    response = await console.client.get(f"{MOUNT}/")
    assert "httponly" in response.headers["set-cookie"].lower()
    assert "samesite=lax" in response.headers["set-cookie"].lower()


async def test_cookie_is_secure_behind_https(bot):
    transport = httpx.ASGITransport(app=build_app(bot), client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://localhost") as client:
        assert "secure" in (await client.get(f"{MOUNT}/")).headers["set-cookie"].lower()


def test_short_access_token_is_refused():
    with pytest.raises(ValidationError, match="16 characters or more"):
        ConsoleSettings(access_token=SecretStr("short"))


def test_stamp_of_another_process_is_not_read():
    stamp = Guard(ConsoleSettings()).build_stamp()
    assert Guard(ConsoleSettings()).read_stamp(stamp) is None


def test_spec_names_the_console():
    assert (spec.name, spec.settings_type) == ("console", ConsoleSettings)
