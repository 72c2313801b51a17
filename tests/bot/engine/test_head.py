from datetime import UTC, datetime

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer

from bot.bundle import CALIBRATION_FILE, HEAD_FILE, Calibration, Manifest, write_json
from bot.engine.head import ZERO_SHOT_SCALE, EncoderHead, log_softmax, mix_experts
from bot.engine.lexical import MAX_CHARACTERS, LexicalExpert, Lexicon, count_terms, cut_ends
from db.types import ModelKind, TaskKind

TEXTS = [
    "The printer on floor 3 is broken, the PRINTER is offline!",
    "Cannot log in to VPN; my password expired",
    "please reset my password   password\tplease",
    "Größe und Preis: 5€ — naïve café, I'm a ok x",
    "a b c",
    "",
]


def make_manifest(labels):
    return Manifest(
        task=TaskKind.CLASSIFICATION,
        model_kind=ModelKind.ENCODER,
        base_digest="0" * 64,
        labels=labels,
        prompt_version="1",
        created_at=datetime.now(UTC),
    )


def build_like_sklearn(kind, low, high):
    vectoriser = TfidfVectorizer(analyzer=kind, ngram_range=(low, high), sublinear_tf=True).fit(TEXTS[:4])
    terms = vectoriser.get_feature_names_out().tolist()
    return vectoriser, Lexicon.build([(kind, low, high, terms)], vectoriser.idf_.astype(np.float32))


@pytest.mark.parametrize(("kind", "low", "high"), [("word", 1, 1), ("word", 1, 2), ("char_wb", 3, 5), ("char_wb", 1, 2)])
def test_features_equal_those_of_sklearn(kind, low, high):
    vectoriser, lexicon = build_like_sklearn(kind, low, high)
    expected = vectoriser.transform(TEXTS).toarray()
    for text, row in zip(TEXTS, expected, strict=True):
        columns, weights = lexicon.transform(text)
        dense = np.zeros(len(lexicon.idf))
        dense[columns] = weights
        np.testing.assert_allclose(dense, row, atol=1e-6)


def test_two_blocks_have_unit_norm_each():
    _, words = build_like_sklearn("word", 1, 2)
    _, characters = build_like_sklearn("char_wb", 3, 5)
    both = Lexicon.build(
        [("word", 1, 2, list(words.blocks[0].columns)), ("char_wb", 3, 5, list(characters.blocks[0].columns))],
        np.concatenate([words.idf, characters.idf]),
    )
    columns, weights = both.transform(TEXTS[0])
    first = columns < len(words.idf)
    assert np.linalg.norm(weights[first]) == pytest.approx(1.0, abs=1e-6)
    assert np.linalg.norm(weights[~first]) == pytest.approx(1.0, abs=1e-6)


def test_terms_and_weights_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 terms"):
        Lexicon.build([("word", 1, 1, ["a", "b"])], np.ones(3, np.float32))
    with pytest.raises(ValueError, match="char_wb"):
        count_terms("x", "letters", min_n=1, max_n=1)


def test_a_huge_text_is_counted_from_both_ends_only():
    text = "start " + "x" * (2 * MAX_CHARACTERS) + " end"
    assert len(cut_ends(text)) <= MAX_CHARACTERS + 1
    assert cut_ends(text).startswith("start")
    assert cut_ends(text).endswith("end")


def test_zero_shot_answers_the_nearest_description():
    head = EncoderHead.zero_shot(np.eye(3, dtype=np.float32), ("a", "b", "c"))
    log_probabilities = head.log_probabilities(np.array([[0, 1, 0]], np.float32), ["text"])
    assert log_probabilities.argmax() == 1
    np.testing.assert_allclose(np.exp(log_probabilities).sum(axis=1), 1.0, rtol=1e-5)
    assert head.weight[0, 0] == ZERO_SHOT_SCALE


def test_log_softmax_stands_huge_logits():
    np.testing.assert_allclose(log_softmax(np.array([[1e4, 0.0]], np.float32)), [[0.0, -1e4]])


def test_temperature_flattens_and_share_mixes_the_experts():
    encoder, lexical = log_softmax(np.array([[4.0, 0.0]])), log_softmax(np.array([[0.0, 4.0]]))
    sharp = mix_experts(encoder, lexical, Calibration())
    flat = mix_experts(encoder, lexical, Calibration(temperature=4.0))
    even = mix_experts(encoder, lexical, Calibration(lexical_weight=0.5))
    other = mix_experts(encoder, lexical, Calibration(lexical_weight=1.0))
    assert sharp[0, 0] > flat[0, 0] > flat[0, 1]
    np.testing.assert_allclose(even, np.log([[0.5, 0.5]]), atol=1e-6)
    np.testing.assert_allclose(other, lexical, atol=1e-6)


def make_head(calibration):
    _, lexicon = build_like_sklearn("word", 1, 2)
    rng = np.random.default_rng(0)
    expert = LexicalExpert(
        lexicon, rng.normal(size=(len(lexicon.idf), 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    )
    return EncoderHead(
        ("a", "b", "c"), rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=3).astype(np.float32), calibration, expert
    )


def save(head, directory):
    head.save(directory)
    write_json(directory / CALIBRATION_FILE, head.calibration)


def test_a_saved_head_answers_the_same_once_loaded(tmp_path):
    head = make_head(Calibration(temperature=1.7, lexical_weight=0.4))
    save(head, tmp_path)
    loaded = EncoderHead.load(tmp_path, make_manifest(head.labels))
    embeddings = np.random.default_rng(1).normal(size=(len(TEXTS), 8)).astype(np.float32)
    np.testing.assert_allclose(loaded.log_probabilities(embeddings, TEXTS), head.log_probabilities(embeddings, TEXTS), atol=5e-3)
    assert loaded.calibration == head.calibration


def test_the_lexical_expert_changes_answers_only_where_it_has_a_share(tmp_path):
    embeddings = np.zeros((1, 8), np.float32)
    silent = make_head(Calibration(lexical_weight=0.0))
    speaking = make_head(Calibration(lexical_weight=0.9))
    same = [silent.log_probabilities(embeddings, [text]) for text in TEXTS[:2]]
    differing = [speaking.log_probabilities(embeddings, [text]) for text in TEXTS[:2]]
    np.testing.assert_array_equal(same[0], same[1])
    assert np.abs(differing[0] - differing[1]).max() > 0.01


def test_a_head_for_other_labels_is_refused(tmp_path):
    save(make_head(Calibration()), tmp_path)
    with pytest.raises(ValueError, match="3 rows for 2 labels"):
        EncoderHead.load(tmp_path, make_manifest(("a", "b")))


def test_a_lexical_expert_that_does_not_fit_is_refused(tmp_path):
    save(make_head(Calibration()), tmp_path)
    tensors = load_file(tmp_path / HEAD_FILE)
    save_file(tensors | {"lexical.weight": tensors["lexical.weight"][:, :2].copy()}, tmp_path / HEAD_FILE)
    with pytest.raises(ValueError, match="lexical expert"):
        EncoderHead.load(tmp_path, make_manifest(("a", "b", "c")))
