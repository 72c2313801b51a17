"""Measures the whole masker, not the model alone: recall and precision per type, over-masking, speed and memory.

Run with `python -m training.pii --masker`; the figures are those of docs/masking.md.
"""

import resource
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from bot.masking import Masker, MaskingSettings
from training.pii.corpus import TEST_FILE, Sentence, load_sentences, read_rows

_TYPES: Final = {"ADDRESS": "LOCATION", "ZIP_CODE": "LOCATION", "US_DRIVER_LICENSE": "DRIVER_LICENSE", "LOC": "LOCATION"}
_LEFT_ALONE: Final = frozenset({"ORGANIZATION", "DATE_TIME", "TITLE", "DOMAIN_NAME"})
_TICKET_CHARS: Final = 500
Gold = tuple[str, list[tuple[int, int, str]]]


def span_rows(path: Path) -> list[Gold]:
    """Texts with character spans of the types the masker knows."""
    rows = []
    for row in read_rows(path):
        spans = [(s["start"], s["end"], _TYPES.get(s["type"], s["type"])) for s in row["spans"] if s["type"] not in _LEFT_ALONE]
        rows.append((row["text"], spans))
    return rows


def sentence_rows(sentences: Iterable[Sentence], per_text: int = 8) -> list[Gold]:
    """Neighbouring sentences of one genre joined to texts, with persons and places as spans."""
    rows: list[Gold] = []
    for _, group in groupby(sentences, key=lambda s: s.genre):
        listed = list(group)
        rows += [_join(listed[i : i + per_text]) for i in range(0, len(listed), per_text)]
    return rows


def _join(sentences: list[Sentence]) -> Gold:
    text, spans = "", []
    for sentence in sentences:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            start, end, label = len(text), len(text) + len(word), tag[2:]
            if tag.startswith("B-") and label != "ORGANIZATION":
                spans.append((start, end, label))
            elif tag.startswith("I-") and label != "ORGANIZATION":
                spans[-1] = (spans[-1][0], end, label)
            text += word + " "
        text += "\n"
    return text, spans


def score(masker: Masker, rows: list[Gold]) -> dict[str, dict[str, float]]:
    """Per gold type: how many, share of which some part is masked under that type, share wholly masked under any type."""
    gold, typed, covered, extra = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for text, spans in rows:
        found = masker.mask(text).spans
        hidden = {i for span in found for i in range(span.start, span.end)}
        for start, end, label in spans:
            gold[label] += 1
            typed[label] += any(s.type == label and s.start < end and start < s.end for s in found)
            covered[label] += all(i in hidden for i in range(start, end) if text[i].isalnum())
        for span in found:
            extra[span.type] += not any(s < span.end and span.start < e for s, e, _ in spans)
    words = sum(len(text.split()) for text, _ in rows)
    result: dict[str, dict[str, float]] = {
        label: {
            "gold": count,
            "recall": round(typed[label] / count, 3),
            "fully_masked": round(covered[label] / count, 3),
            "unasked": extra[label],
        }
        for label, count in sorted(gold.items())
    }
    unasked = extra["PERSON"] + extra["LOCATION"]
    result["names and places masked without need"] = {"per_1000_words": round(1000 * unasked / words, 1)}
    return result


def speed(masker: Masker, texts: list[str]) -> dict[str, float]:
    """Latency of 500-character tickets, throughput and memory of this process."""
    joined = "\n".join(texts)
    tickets = [joined[i : i + _TICKET_CHARS] for i in range(0, len(joined) - _TICKET_CHARS, _TICKET_CHARS)][:600]
    times = []
    for ticket in tickets:
        started = time.perf_counter()
        masker.mask(ticket)
        times.append((time.perf_counter() - started) * 1000)
    quantiles = statistics.quantiles(times, n=100)
    return {
        "p50_ms": round(quantiles[49], 1),
        "p95_ms": round(quantiles[94], 1),
        "p99_ms": round(quantiles[98], 1),
        "tickets_per_s": round(1000 * len(times) / sum(times), 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def measure_masker(data: Path, model: Path) -> dict[str, Any]:
    """All figures of the masker with the model in `model`."""
    masker = Masker(MaskingSettings(model_dir=model, chunk_timeout_ms=60_000))
    ewt = load_sentences(data, "ner/uner_ewt", "dev")
    synthetic = span_rows(data / f"{TEST_FILE}.jsonl.gz")
    return {
        "speed": speed(masker, [text for text, _ in synthetic]),
        "presidio synthetic": score(masker, synthetic),
        "ewt dev": score(masker, sentence_rows(ewt)),
        "ewt dev mail": score(masker, sentence_rows(s for s in ewt if s.genre == "email")),
    }
