"""The texts with known personal data on which maskers are scored, and the tickets on which they are timed.

Knows where the sets lie and how their types are called here; nothing of maskers.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benches.paths import ROOT
from bot.data import load_sample_tickets
from training.pii.corpus import load_sentences, read_rows
from training.pii.masker_figures import Gold, sentence_rows, span_rows

DATA: Final = ROOT.parent / "shared" / "data"
OWN: Final = ROOT / "tests" / "bot" / "masking"
# What was typed into a chat when a bot asked for it; an organisation or a case number is none of the customer's own data.
_CHAT_TYPES: Final = {
    **{name: name for name in ("PERSON", "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "US_SSN")},
    "ADDRESS": "LOCATION",
    "LOC": "LOCATION",
    "ACCOUNT_NUMBER": "BANK_ACCOUNT",
    "PASSWORD": "SECRET",
}
_NER_SETS: Final = {
    "ewt_dev": ("ner/uner_ewt", "dev"),
    "btc_dev": ("ner/btc", "dev"),
    "wnut17_dev": ("ner/wnut17", "dev"),
    "crossner_test": ("ner/crossner", "test"),
}
_TICKET_CHARS: Final = 500


@dataclass(frozen=True)
class ScoredSet:
    """Texts with spans. `optional` holds, per text, stretches that may be masked or not."""

    name: str
    remark: str
    rows: tuple[Gold, ...]
    optional: tuple[tuple[tuple[int, int], ...], ...] = ()


REMARKS: Final = {
    "ewt_dev": "mail, reviews, answers, weblogs; the name model's checkpoint was chosen on it",
    "ewt_dev_mail": "the mails among them",
    "btc_dev": "tweets; handles are not scored",
    "wnut17_dev": "social text with rare names; handles are not scored",
    "crossner_test": "encyclopaedia; never trained on",
    "presidio_synthetic": "templates with generated values; never trained on",
    "multidogo_dev": "bare answers to a chat bot, punctuation stripped; its train part taught the name model",
    "adversarial": "own snippets; whoever wrote the rules knows them",
    "adversarial_unseen": "own snippets, kept apart from those the rules were written with",
}


def load_sets() -> Iterator[ScoredSet]:
    """Yield the sets that are there: the project's own always, the others where `../shared/data` lies beside the checkout."""
    if (DATA / "ner").is_dir():
        for name, (file, split) in _NER_SETS.items():
            sentences = load_sentences(DATA, file, split)
            yield ScoredSet(name, REMARKS[name], tuple(sentence_rows(sentences)))
            mails = [sentence for sentence in sentences if sentence.genre == "email"]
            if mails:
                yield ScoredSet(f"{name}_mail", REMARKS[f"{name}_mail"], tuple(sentence_rows(mails)))
    if (DATA / "pii").is_dir():
        rows = span_rows(DATA / "pii" / "presidio_synthetic.jsonl.gz")
        yield ScoredSet("presidio_synthetic", REMARKS["presidio_synthetic"], tuple(rows))
        chat = [join_tagged(row) for row in read_rows(DATA / "pii" / "multidogo_chat.jsonl.gz") if row["split"] == "dev"]
        yield ScoredSet("multidogo_dev", REMARKS["multidogo_dev"], tuple(chat))
    for name in ("adversarial", "adversarial_unseen"):
        if (OWN / f"{name}.jsonl").exists():
            yield load_own(name, OWN / f"{name}.jsonl")


def load_own(name: str, path: Path) -> ScoredSet:
    """Read a set of the project's own: `text`, `spans` and, where something may go either way, `optional` spans."""
    listed = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = tuple((row["text"], [(s["start"], s["end"], s["type"]) for s in row["spans"]]) for row in listed)
    optional = tuple(tuple((s["start"], s["end"]) for s in row.get("optional", ())) for row in listed)
    return ScoredSet(name, REMARKS[name], rows, optional)


def join_tagged(row: dict[str, Any]) -> Gold:
    """Return a tagged sentence as text with spans of the types that are the customer's own data."""
    text, before = "", "O"
    spans: list[tuple[int, int, str]] = []
    for word, tag in zip(row["tokens"], row["tags"], strict=True):
        start, label = len(text), _CHAT_TYPES.get(tag[2:])
        if label is not None and tag.startswith("I-") and before == label and spans:
            spans[-1] = (spans[-1][0], start + len(word), label)
        elif label is not None:
            spans.append((start, start + len(word), label))
        before = label or "O"
        text += word + " "
    return text, spans


def load_tickets(n_chars: int = _TICKET_CHARS, *, count: int) -> list[str]:
    """Return support chat cut to size: real technical support where the data is there, else the bundled sample tickets, repeated."""
    path = DATA / "conversations" / "irc_support.jsonl.gz"
    if path.exists():
        texts = [" ".join(turn["text"] for turn in row["dialogue"]) for row in _read_some(path, n_chars * count)]
    else:
        samples = [" ".join((ticket.subject, ticket.text)) for ticket in load_sample_tickets()]
        texts = samples * (1 + n_chars * (count + 1) // max(1, sum(len(text) + 1 for text in samples)))
    return _cut("\n".join(texts), n_chars, count)


def load_dense_tickets(n_chars: int = _TICKET_CHARS, *, count: int) -> list[str]:
    """Return texts full of personal data, cut to size; empty where the shared data is not there."""
    path = DATA / "pii" / "presidio_synthetic.jsonl.gz"
    return _cut("\n".join(row["text"] for row in read_rows(path)), n_chars, count) if path.exists() else []


def _cut(text: str, n_chars: int, count: int) -> list[str]:
    return [text[i : i + n_chars] for i in range(0, len(text) - n_chars, n_chars)][:count]


def _read_some(path: Path, n_chars: int) -> Iterator[dict[str, Any]]:
    read = 0
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            yield row
            read += sum(len(turn["text"]) for turn in row["dialogue"])
            if read > 2 * n_chars:
                return


def build_hostile(n_chars: int = 20_000) -> dict[str, str]:
    """Return inputs that are slow in careless patterns, each `n_chars` long, by what they are made of."""
    units = [
        *(
            "(",
            ":",
            "a.",
            "@",
            "<",
            "&lt;",
            "=40",
            "-",
            "_",
            "/",
            "\n",
            " ",
            "\\",
            '"',
            "'",
            "#",
            "%40",
            "\u200b",
            "é",
            "１",
            "😀",
        ),
        *(
            "a@",
            "a@b.",
            "1.",
            "1 ",
            "1-",
            "4111 ",
            "4111 1111 ",
            "DE89 ",
            "+44 ",
            "192.168.",
            "aa:bb:",
            "AKIA",
            "eyJ",
            "sk_live_",
        ),
        *(
            "password: ",
            "Dear ",
            "Hi Ann ",
            "Mr. ",
            "Street 1, ",
            "call me ",
            "order 1",
            "<PERSON_1>",
            "http://",
            "?token=",
            "{{",
            "A1b2",
        ),
        *("O'Brien-", "Ann Lee\n", "my name is ", "at dot ", "IBAN ", "key=", "\t", "Ann@"),
    ]
    return {unit: (unit * (n_chars // len(unit) + 1))[:n_chars] for unit in units}
