"""What the acknowledgement bench sends is what Slack sends: the plugin takes every sort of it, and handles each event once."""

from collections import Counter

from benches import api, api_slack
from tests.plugins.slack.fake_slack import FakeSlack
from tests.plugins.slack.slack_helpers import URL, run_bench

TEXTS = ("my vpn is down", "the printer smokes")


async def test_every_sort_of_request_is_taken_in(monkeypatch):
    slack = FakeSlack()
    await slack.start()
    try:
        async with run_bench(slack, signing_secret=api_slack.SECRET, channels={api_slack.CHANNEL: ()}) as bench:
            for number in range(20):
                body, content_type = api.choose_request(number, TEXTS)
                answer = await bench.client.post(URL, content=body, headers=api_slack.sign(body, content_type))
                assert answer.status_code == 200
            counts = bench.plugin.intake.counts
            assert counts == {"event:message": 16, "action:triage_accept": 2, "command:/triage": 2}
            kinds = Counter(event.kind for event in bench.plugin.queue.events)
            assert kinds["event:message"] == 14
    finally:
        await slack.stop()
    assert slack.faults == []


def test_a_fifth_of_the_events_is_delivered_twice():
    counts = Counter(api.build_deliveries(1000))
    assert sorted(counts) == list(range(1000))
    assert Counter(counts.values()) == {1: 800, 2: 200}


def test_a_card_posted_twice_is_counted():
    slack = api_slack.BenchSlack()
    for _ in range(2):
        slack._post({"channel": "C", "thread_ts": "1.1"})
    assert slack.cards == {"1.1": 2}
