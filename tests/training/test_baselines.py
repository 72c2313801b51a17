import numpy as np
import pytest

from training.baselines import (
    build_vectoriser,
    choose_strength,
    compress,
    compute_baselines,
    predict_linear,
    predict_majority,
    predict_neighbours,
    predict_tfidf,
)

WORDS = {0: "printer paper toner jam", 1: "invoice payment refund card", 2: "password login account locked"}


def make_texts(n, *, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    texts = [" ".join([*rng.choice(WORDS[label].split(), 2), *rng.choice(["please", "help", "today"], 2)]) for label in labels]
    return texts, labels


def embed_by_words(texts):
    vocabulary = sorted({word for words in WORDS.values() for word in words.split()})
    rows = np.array([[text.split().count(word) for word in vocabulary] for text in texts], float) + 1e-3
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_every_baseline_but_majority_solves_separable_texts_and_answers_with_distributions():
    train, labels = make_texts(60, seed=0)
    test, gold = make_texts(30, seed=1)
    answers = compute_baselines(train, labels, test, n_labels=4, embed=embed_by_words)
    assert set(answers) == {"tfidf", "frozen", "knn", "majority"}
    for name, probabilities in answers.items():
        assert probabilities.shape == (30, 4)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
        if name != "majority":
            assert (probabilities.argmax(axis=1) == gold).mean() > 0.9, name


def test_majority_answers_with_the_shares_of_the_examples():
    np.testing.assert_allclose(predict_majority(np.array([0, 0, 2]), n_test=1, n_labels=3), [[2 / 3, 0, 1 / 3]])


def test_one_label_with_examples_is_always_answered():
    assert predict_tfidf(["a b", "c d"], np.array([1, 1]), ["zz yy"], n_labels=3)[0].argmax() == 1


def test_texts_without_any_word_fall_back_to_the_majority():
    assert predict_tfidf(["", ""], np.array([0, 1]), [""], n_labels=2)[0] == pytest.approx([0.5, 0.5])


def test_a_label_with_one_example_does_not_stop_cross_validation():
    train, labels = make_texts(60, seed=0)
    labels = labels.copy()
    labels[0] = 3
    assert predict_tfidf(train, labels, train[:3], n_labels=4).shape == (3, 4)


def test_strength_is_the_default_when_there_are_too_few_rows_to_choose():
    assert choose_strength(np.eye(3), np.array([0, 1, 2]), seed=0) == 10.0


def test_linear_model_on_few_examples_answers_their_labels():
    features = np.eye(4)
    assert predict_linear(features, np.array([0, 1, 2, 3]), features, n_labels=5).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_neighbours_with_a_single_example_answer_its_label():
    assert predict_neighbours(np.ones((1, 2)), np.array([1]), np.ones((2, 2)), n_labels=2).argmax(axis=1).tolist() == [1, 1]


def test_compressed_features_give_the_same_answers_as_all_columns():
    train, labels = make_texts(60, seed=0)
    test, _ = make_texts(30, seed=1)
    vectoriser = build_vectoriser()
    before = vectoriser.fit_transform(train)
    after = vectoriser.transform(test)
    few = compress(before, after)
    assert few[0].shape[1] <= 60 < before.shape[1]
    plain, fast = (predict_linear(fit, labels, ask, n_labels=3) for fit, ask in ((before, after), few))
    np.testing.assert_allclose(plain, fast, atol=0.02)
