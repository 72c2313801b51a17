from bot.engine.text import cut_middle, cut_text


def test_a_short_list_is_kept_whole():
    assert cut_middle([1, 2, 3], 3) == ([1, 2, 3], False)


def test_a_long_list_keeps_head_and_tail():
    kept, is_truncated = cut_middle(list(range(100)), 8)
    assert is_truncated
    assert kept == [0, 1, 2, 3, 4, 5, 98, 99]


def test_a_limit_of_three_or_less_still_holds():
    for limit in range(4):
        assert len(cut_middle(list(range(100)), limit)[0]) == limit


def test_a_huge_text_is_cut_before_it_is_tokenised():
    text = "a" * 10_000 + "b" * 10_000
    short, is_cut = cut_text(text, 16)
    assert is_cut
    assert len(short) < 600
    assert short.startswith("aaa")
    assert short.endswith("bbb")
