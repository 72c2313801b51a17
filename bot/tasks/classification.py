"""Classification: how labels are described to an encoder and offered to a decoder, and the sentence on the card.

Pure functions; knows nothing of engines, tables or plugins. Serving and training render with the same code.
"""

import re
from collections.abc import Sequence
from typing import Final

from bot.engine.protocol import ChoiceSet
from bot.types import Label, LabelSet
from db.types import TaskKind

PROMPT_VERSION: Final = "classification-1"
MAX_DESCRIPTION_WORDS: Final = 40
MAX_LISTED_CHARS: Final = 8_000
"""A label list longer than this is shown to a decoder without descriptions: they would fill its context."""

_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])")
_SEPARATORS: Final = re.compile(r"[\s_\-/.:|]+")
_WORDS_BY_PROBABILITY: Final = ((0.9, "Very likely"), (0.7, "Likely"), (0.5, "Probably"), (0.3, "Possibly"), (0.0, "A guess"))


def humanise(name: str) -> str:
    """Split snake_case, kebab-case and CamelCase into lower-case words."""
    words = _SEPARATORS.sub(" ", _CAMEL.sub(" ", name)).strip()
    return (words or name.strip()).lower()


def build_choices(label_set: LabelSet) -> ChoiceSet:
    """Return what can be answered and how it is asked.

    An answer is written exactly as the label stands in the list, so that both have the same tokens: ` words` after a dash, then a line
    break, which also keeps one answer from being the beginning of another.
    """
    answers = _build_answers(label_set)
    return ChoiceSet(
        key=f"{TaskKind.CLASSIFICATION}:{label_set.version}:{PROMPT_VERSION}",
        names=label_set.names,
        descriptions=tuple(describe(label) for label in label_set.labels),
        prefix=_build_prefix(label_set, answers),
        suffix="\n\nThe category that fits this ticket:\n-",
        answers=tuple(f" {answer}\n" for answer in answers),
    )


def describe(label: Label) -> str:
    """Return the text that an encoder embeds for a label it has no examples of."""
    words = humanise(label.name)
    return f"{words}: {_cut_words(label.description)}" if label.description else words


def _build_answers(label_set: LabelSet) -> list[str]:
    answers = [humanise(name) for name in label_set.names]
    # Two names may differ in spelling alone (`HR_Support`, `HR Support`); then each keeps its own spelling.
    return [answer if answers.count(answer) == 1 else name for answer, name in zip(answers, label_set.names, strict=True)]


def _build_prefix(label_set: LabelSet, answers: Sequence[str]) -> str:
    described = [
        f"- {answer}: {_cut_words(label.description)}" if label.description else f"- {answer}"
        for answer, label in zip(answers, label_set.labels, strict=True)
    ]
    plain = [f"- {answer}" for answer in answers]
    lines = described if sum(map(len, described)) <= MAX_LISTED_CHARS else plain
    listed = "\n".join(lines)
    return f"Each support ticket belongs to one of these categories:\n{listed}\n\nTicket:\n"


def _cut_words(text: str) -> str:
    words = text.split()
    return " ".join(words[:MAX_DESCRIPTION_WORDS])


def confidence_words(probability: float) -> str:
    """Say a probability in words, for people who do not read percentages."""
    return next(words for floor, words in _WORDS_BY_PROBABILITY if probability >= floor or floor == 0.0)


def render_reason(label: str, probability: float, similar: Sequence[tuple[str, float]] = ()) -> str:
    """Say in one sentence why a label is suggested. `similar` holds (label, cosine) of past decided tickets, nearest first."""
    claim = f"{confidence_words(probability)} {label} ({_render_percent(probability)})"
    if not similar:
        return f"{claim}, judging by its wording; no similar past ticket is known yet."
    n_same = sum(name == label for name, _ in similar)
    if n_same == len(similar):
        past = "the most similar past ticket was" if n_same == 1 else f"all {n_same} of the most similar past tickets were"
        return f"{claim}: {past} {label}."
    if n_same == 0:
        return f"{claim}, judging by its wording, though the most similar past ticket was {similar[0][0]}."
    return f"{claim}: {n_same} of the {len(similar)} most similar past tickets {'was' if n_same == 1 else 'were'} {label}."


def _render_percent(probability: float) -> str:
    # Never "100 %": a model that claims certainty invites people not to look.
    return f"{min(max(round(probability * 100), 1), 99)} %"


def build_fields(label: Label) -> dict[str, str]:
    """Return the values that a helpdesk would write for a label: queue, priority, escalate; without those that are not set."""
    fields = {"queue": label.queue or "", "priority": label.priority or "", "escalate": "true" if label.escalate else ""}
    return {key: value for key, value in fields.items() if value}
