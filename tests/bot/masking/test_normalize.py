"""The plain form of text and the way back to original offsets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.masking.normalize import normalize


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("su\u200be", "sue"),
        ("a&amp;b &#64;", "a&b @"),
        ("sue%40pond.org", "sue@pond.org"),
        ("caf=C3=A9", "café"),
        ("soft=\nbreak", "softbreak"),
        ("４１１", "411"),
        ("١٢٣", "123"),
        ("e\u0301", "é"),
        ("a\u00a0b", "a b"),
        ("<b>Ann</b><br>x", "Ann\nx"),
        ("a=FF", "a=FF"),
        ("&bogus;", "&bogus;"),
    ],
)
def test_disguise_is_undone(text, plain):
    assert normalize(text).text == plain


@given(st.text())
def test_maps_are_as_long_as_the_text_and_never_run_backwards(text):
    plain = normalize(text)
    assert len(plain.text) == len(plain.starts) == len(plain.ends)
    assert plain.starts == sorted(plain.starts)
    assert plain.ends == sorted(plain.ends)
    assert all(0 <= s < e <= len(text) for s, e in zip(plain.starts, plain.ends, strict=True))


def test_original_offsets_cover_the_disguise():
    text = "x su\u200be&#64;p.org y"
    plain = normalize(text)
    start = plain.text.index("sue@p.org")
    assert text[slice(*plain.original(start, start + 9))] == "su\u200be&#64;p.org"
