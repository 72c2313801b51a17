"""The quick way to the simple word model must give the answers of the slow way."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from bot.data import load_demo_tickets
from training.baselines import build_vectoriser
from training.compare import answer_by_words, answer_simply, compute_word_features


def read(n):
    tickets = load_demo_tickets()
    names = sorted({ticket.label for ticket in tickets.stream})
    parts = tickets.stream[:n], tickets.unseen[:n]
    return [([t.text for t in part], np.array([names.index(t.label) for t in part])) for part in parts]


def test_the_reduced_space_gives_the_answers_of_all_columns():
    (train, labels), (test, _) = read(80)
    vectoriser = build_vectoriser()
    features = vectoriser.fit_transform(train)
    slow = LogisticRegression(C=10.0, max_iter=500).fit(features, labels).predict_proba(vectoriser.transform(test))
    before, after = compute_word_features(train, test)
    quick = LogisticRegression(C=10.0, max_iter=500).fit(before, labels).predict_proba(after)
    np.testing.assert_allclose(quick, slow, atol=1e-3)


def test_texts_without_any_word_leave_only_the_shares_of_the_labels():
    answers = answer_simply(["!", "?"], np.array([0, 1]), ["..."], n_labels=2, embed=lambda texts: np.eye(2)[: len(texts)])
    np.testing.assert_allclose(answers["tfidf"], [[0.5, 0.5]])


def test_every_simple_model_answers_with_a_distribution_over_all_labels():
    (train, labels), (test, _) = read(60)
    generator = np.random.default_rng(0)

    def embed(texts):
        rows = generator.normal(size=(len(texts), 16))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    answers = answer_simply(train, labels, test, n_labels=8, embed=embed)
    assert set(answers) == {"tfidf", "frozen", "knn", "majority"}
    for probabilities in answers.values():
        assert probabilities.shape == (60, 8)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)


def test_models_on_words_learn_what_the_words_say_and_need_no_embeddings():
    train = [f"{word} number {number}" for number in range(20) for word in ("printer", "invoice")]
    labels = np.array([number % 2 for number in range(40)])
    answers = answer_by_words(train, labels, ["the printer smokes", "another invoice"], n_labels=3)
    for probabilities in answers.values():
        assert probabilities.argmax(axis=1).tolist() == [0, 1]
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


def test_texts_without_a_word_get_the_labels_shares_from_models_on_words():
    answers = answer_by_words(["!", "?", "."], np.array([0, 1, 1]), ["..."], n_labels=2)
    np.testing.assert_allclose([answers["tfidf"][0], answers["knn"][0]], [[1 / 3, 2 / 3]] * 2)
