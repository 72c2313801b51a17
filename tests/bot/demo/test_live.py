import pytest

from bot.demo.live import is_wrong

A = {"x": 0.9, "y": 0.1}
B = {"x": 0.3, "y": 0.7}


@pytest.mark.parametrize(
    ("given", "claimed", "others", "expected"),
    [
        (A, A, [B], False),
        ({"x": 0.89, "y": 0.11}, A, [B], False),  # rounding of another batch size
        (B, A, [B], True),  # the other adapter answered
        ({"x": 0.6, "y": 0.4}, A, [B], True),  # a mixture
        ({"x": 0.87, "y": 0.13}, A, [{"x": 0.86, "y": 0.14}], True),  # nearer to another, beyond the noise
        ({"x": 0.898, "y": 0.102}, A, [{"x": 0.897, "y": 0.103}], False),  # two adapters that agree
    ],
)
def test_an_answer_is_wrong_when_it_is_not_what_its_adapter_gives(given, claimed, others, expected):
    assert is_wrong(given, claimed, others) is expected
