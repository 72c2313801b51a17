"""Reads the openly licensed NER files and turns them, with the synthetic tickets, into training and measuring examples.

Expects the JSON Lines files (tokens, BIO tags, split) in the folders named below; knows nothing of the model.
"""

import gzip
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

TRAIN_FILES: Final = ("ner/uner_ewt", "ner/btc", "ner/wnut17", "ner/wikigold", "pii/multidogo_chat")
PROSE_FILES: Final = ("text/english_novels-00", "text/english_novels-01", "text/python_peps-00")
TEST_FILE: Final = "pii/presidio_synthetic"
_LABELS: Final = {"PERSON": "PERSON", "LOC": "LOCATION", "ADDRESS": "LOCATION", "ORG": "ORGANIZATION"}
# multidogo_chat: invented data typed into a chat; a part of it is enough to learn bare lower-case answers.
_CHAT_SHARE: Final = 0.25
LOWER_SHARE: Final = 0.15
UPPER_SHARE: Final = 0.04


@dataclass(frozen=True)
class Sentence:
    """Words with BIO tags over PERSON, LOCATION, ORGANIZATION."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    source: str
    genre: str = ""


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of one gzipped JSON Lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _sentence(row: dict[str, Any]) -> Sentence:
    words, tags, previous = [], [], "O"
    for word, tag in zip(row["tokens"], row["tags"], strict=True):
        prefix, _, kind = tag.partition("-")
        label = _LABELS.get(kind)
        if not word.strip():
            continue
        # A handle is a matter for a rule, not for the name model.
        if label is None or word.startswith("@"):
            tags.append("O")
        elif prefix == "I" and previous.endswith(label):
            tags.append(f"I-{label}")
        else:
            tags.append(f"B-{label}")
        previous = tags[-1]
        words.append(word)
    return Sentence(tuple(words), tuple(tags), row["source"], row.get("genre", ""))


def load_sentences(data: Path, name: str, split: str) -> list[Sentence]:
    """The sentences of one file and split."""
    rows = read_rows(data / f"{name}.jsonl.gz")
    return [s for row in rows if row["split"] == split and (s := _sentence(row)).words]


def training_sentences(data: Path, seed: int) -> list[Sentence]:
    """All training sentences, the chat answers thinned out."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible draw
    sentences: list[Sentence] = []
    for name in TRAIN_FILES:
        loaded = load_sentences(data, name, "train")
        if name == "pii/multidogo_chat":
            loaded = [s for s in loaded if rng.random() < _CHAT_SHARE]
        sentences.extend(loaded)
    return sentences


def prose(data: Path, sentences: Iterable[Sentence]) -> Iterator[str]:
    """Ordinary text for casing counts: the training sentences outside their entities, novels and technical prose."""
    for sentence in sentences:
        if "multidogo" not in sentence.source:
            yield " ".join(word if tag == "O" else "X" for word, tag in zip(sentence.words, sentence.tags, strict=True))
    for name in PROSE_FILES:
        for row in read_rows(data / f"{name}.jsonl.gz"):
            yield row["text"]


def join(group: list[Sentence], rng: random.Random) -> tuple[list[str], list[str]]:
    """One to three sentences as one text, now and then with a line break between, as in mail."""
    words: list[str] = []
    tags: list[str] = []
    for sentence in group:
        if words and rng.random() < 0.3:
            words.append("\n" * rng.choice((1, 1, 2)))
            tags.append("O")
        words.extend(sentence.words)
        tags.extend(sentence.tags)
    return words, tags


def grouped(sentences: list[Sentence], rng: random.Random) -> Iterator[tuple[list[str], list[str]]]:
    """Shuffled groups of one to three neighbouring sentences, plus lower- and upper-cased copies of some."""
    groups, index = [], 0
    while index < len(sentences):
        size = rng.choice((1, 1, 2, 3))
        groups.append(sentences[index : index + size])
        index += size
    rng.shuffle(groups)
    for group in groups:
        words, tags = join(group, rng)
        yield words, tags
        roll = rng.random()
        if roll < LOWER_SHARE:
            yield [w.lower() for w in words], tags
        elif roll < LOWER_SHARE + UPPER_SHARE:
            yield [w.upper() for w in words], tags
