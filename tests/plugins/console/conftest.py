"""Fixtures: the console on a FakeBot, in process and in a real browser."""

from datetime import UTC, datetime

import pytest

from bot.testing import FakeBot, FakeClock
from tests.plugins.console.console_helpers import CHROMIUM_ARGS, Console, Server, build_app, connect, find_chromium


@pytest.fixture
def bot():
    return FakeBot.with_samples(clock=FakeClock(datetime.now(UTC)))


@pytest.fixture
async def console(bot):
    async with connect(build_app(bot)) as client:
        yield Console(bot, client)


@pytest.fixture
def live_bot():
    """Its clock moves a bit with each sleep, and a sleep takes a little real time, so that progress can be seen."""
    bot = FakeBot.with_samples(clock=FakeClock(datetime.now(UTC), real_s=0.05))
    bot.feedback.clear()
    return bot


@pytest.fixture
def url(live_bot):
    with Server(build_app(live_bot)) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    """One browser per module: while it lives its event loop is the thread's, and async tests could not run."""
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install one (apt-get install chromium) or name it in UNDERSTUDY_CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, url):
    """Open a page of the console; at the end no page may have logged an error (a CSP violation is one)."""
    contexts, errors = [], []

    def open_(path, **options):
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: errors.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []
