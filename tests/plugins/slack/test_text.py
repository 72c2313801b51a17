"""Slack's text and plain text."""

import pytest

from plugins.slack.payloads import find_key, find_permalink
from plugins.slack.text import cut, cut_escaped, describe_confidence, escape, read_text, split_mention, to_plain


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("a &lt;b&gt; &amp; c", "a <b> & c"),
        ("mail <mailto:ann@x.test|ann@x.test> now", "mail ann@x.test now"),
        ("mail <mailto:ann@x.test|Ann> now", "mail Ann (ann@x.test) now"),
        ("call <tel:+15551234|+1 555 1234>", "call +1 555 1234 (+15551234)"),
        ("see <https://x.test/a?b=1&amp;c=2>", "see https://x.test/a?b=1&c=2"),
        ("see <https://x.test|the page>", "see the page (https://x.test)"),
        ("<@U1> and <@U2|ann> in <#C1|help>", "@U1 and @ann in #help"),
        ("<!here> <!subteam^S1|@team> <!date^1^x|today>", "@here @team today"),
        ("&amp;lt; stays", "&lt; stays"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
    ],
)
def test_markup_becomes_what_a_person_reads(given, plain):
    assert to_plain(given) == plain


def test_escaped_text_reads_the_same_again():
    text = "<@U1> & <!channel> &lt;"
    assert to_plain(escape(text)) == text
    assert "<" not in escape(text)


@pytest.mark.parametrize("limit", [1, 5, 50, 299, 300, 3000])
def test_cut_keeps_the_limit_and_never_breaks_an_escape(limit):
    shown = cut_escaped("<&>x" * 100, limit)
    assert len(shown) <= limit
    assert to_plain(shown).rstrip("…") in "<&>x" * 100
    assert len(cut("x" * 500, limit)) <= limit


def test_mention_is_taken_off_the_beginning_alone():
    assert split_mention("<@UBOT> <@U2|x>: why &lt;<@U3>?") == ("UBOT", "why <@U3?")
    assert split_mention("why <@U3>?") == ("", "why @U3?")


def test_message_of_an_app_is_read_from_its_attachments():
    message = {"text": "", "attachments": [{"title": "Mail", "text": "my &amp; vpn"}, {"fallback": "x"}, "odd"]}
    assert read_text(message) == "Mail\nmy & vpn"
    assert read_text({"attachments": "odd"}) == ""


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.95, "very sure, 95 %"), (0.8, "fairly sure, 80 %"), (0.6, "somewhat sure, 60 %"), (0.2, "not sure, 20 %")],
)
def test_confidence_is_said_in_words_and_as_a_number(probability, words):
    assert describe_confidence(probability, low=0.5) == words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://x.slack.com/archives/C1/p1700000000000100", ("C1", "1700000000.000100", "1700000000.000100")),
        (
            "look: <https://x.slack.com/archives/C1/p1700000000000200?thread_ts=1700000000.000100&amp;cid=C1|x>",
            ("C1", "1700000000.000200", "1700000000.000100"),
        ),
        ("https://x.slack.com/archives/C1", None),
        ("no link", None),
    ],
)
def test_link_to_a_message_is_found(text, found):
    place = find_permalink(text, team="T1")
    assert (place and (place.channel, place.ts, place.thread_ts)) == found


def test_keys_tell_two_people_and_two_clicks_apart():
    def click(user, action_ts):
        return {"team": {"id": "T"}, "user": {"id": user}, "actions": [{"action_ts": action_ts, "action_id": "a"}]}

    keys = {find_key("action:a", click(user, ts)) for user in ("U1", "U2") for ts in ("1.1", "1.2")}
    assert len(keys) == 4


def test_payload_without_an_id_is_known_by_its_content():
    assert find_key("event:x", {"a": 1}) == find_key("event:x", {"a": 1})
    assert find_key("event:x", {"a": 1}) != find_key("event:x", {"a": 2})
