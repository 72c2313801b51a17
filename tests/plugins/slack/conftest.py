"""Fixtures: a fake Slack and the plugin on a FakeBot. At the end no call may have been one that Slack would refuse."""

import pytest

from tests.plugins.slack.fake_slack import FakeSlack
from tests.plugins.slack.slack_helpers import run_bench


@pytest.fixture
async def slack():
    fake = FakeSlack()
    await fake.start()
    yield fake
    await fake.stop()
    assert fake.faults == []


@pytest.fixture
async def bench(slack):
    async with run_bench(slack) as built:
        yield built
