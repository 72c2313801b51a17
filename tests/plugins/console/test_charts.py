"""Charts and words: pure functions."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.plugin_api import BASE, DryRun
from plugins.console import charts, words

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def build_line(*shares, digests=None):
    digests = digests or [BASE] * len(shares)
    return charts.build_timeline([(NOW + timedelta(days=n), s, d) for n, (s, d) in enumerate(zip(shares, digests, strict=True))])


def test_timeline_of_one_bucket_is_none():
    assert build_line(0.5) is None


def test_better_share_lies_higher():
    line = build_line(0.5, 0.9)
    assert line.points[0].y > line.points[1].y
    assert all(0 <= point.x <= 100 and 0 <= point.y <= 100 for point in line.points)


@pytest.mark.parametrize("shares", [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
def test_extreme_shares_stay_inside_the_picture(shares):
    assert all(14 <= point.y <= 88 for point in build_line(*shares).points)


def test_mark_stands_between_the_buckets_where_the_adapter_changed():
    line = build_line(0.5, 0.6, 0.7, digests=[BASE, "a" * 64, "a" * 64])
    assert [mark.text for mark in line.marks] == ["aaaaaaa"]
    assert line.points[0].x < line.marks[0].x < line.points[1].x


def test_many_marks_are_numbered():
    line = build_line(*[0.5] * 7, digests=[str(n) * 64 for n in range(7)])
    assert [mark.text for mark in line.marks] == ["1", "2", "3", "4", "5", "6"]


def test_candidate_is_compared_with_the_active_adapter_before_the_base():
    numbers = {"base_accuracy": 0.6, "active_accuracy": 0.8, "candidate_accuracy": 0.9, "knn_accuracy": 0.7, "n_test": 320.0}
    assert words.pair_metrics(numbers) == [("accuracy", 0.8, 0.9)]
    assert charts.get_unpaired(numbers) == [("Base accuracy", "60.0%"), ("Knn accuracy", "70.0%"), ("Test tickets", "320")]


def test_candidate_is_compared_with_the_base_where_nothing_was_active():
    assert words.pair_metrics({"base_ece": 0.2, "candidate_ece": 0.1, "gain": 0.3}) == [("ece", 0.2, 0.1)]


def test_share_changes_are_said_in_points_and_others_as_numbers():
    share, latency = charts.build_comparisons([("accuracy", 0.8, 0.9), ("latency_p50_ms", 40.0, 20.0)])
    assert (share.before, share.after, share.change, share.is_up) == ("80.0%", "90.0%", "+10.0 points", True)
    assert (latency.after_x, latency.change, latency.is_down) == (50.0, "-20", True)


def test_split_bar_fills_its_width():
    bars = charts.build_split_bar(DryRun(70, 10, 10, 10, {}, {}, is_enough=True, message=""))
    assert [bar.x for bar in bars] == [0.0, 70.0, 80.0, 90.0]
    assert sum(bar.width for bar in bars) == pytest.approx(100)


def test_bars_of_nothing_are_none():
    assert charts.build_bars({}) == []
    assert [bar.width for bar in charts.build_bars({"a": 0, "b": 0})] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("probability", "said", "percent"),
    [
        (1.0, "very likely", "100%"),
        (0.996, "very likely", "99%"),
        (0.7, "likely", "70%"),
        (0.5, "plausible", "50%"),
        (0.31, "unsure", "31%"),
        (0.0, "a guess", "0%"),
    ],
)
def test_confidence_in_words(probability, said, percent):
    assert (words.say_confidence(probability), words.say_percent(probability)) == (said, percent)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "just now"), (59, "just now"), (60, "1 min ago"), (7200, "2 h ago"), (86400 * 3, "3 d ago"), (86400 * 400, "1 y ago")],
)
def test_time_since_in_words(seconds, said):
    assert words.say_ago(NOW - timedelta(seconds=seconds), NOW) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1, "0 s"), (42.4, "42 s"), (60, "1 min"), (95, "1 min 35 s"), (3720, "1 h 2 min")]
)
def test_duration_in_words(seconds, said):
    assert words.say_duration(seconds) == said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("n_test", 1200, "1,200"), ("latency_ms", 12.345, "12.3"), ("gain", -0.012, "-1.2 points"), ("loss", 0.5, "0.5")],
)
def test_metric_in_words(name, value, said):
    assert words.say_metric(name, value) == said
