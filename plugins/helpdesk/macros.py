"""Chooses the macro to suggest: the label's own where the helpdesk has it, else the one whose words are nearest to ticket and label.

Pure; knows no helpdesk.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from bot.plugin_api import Label, LabelSet
from plugins.helpdesk.values import Macro

MIN_SIMILARITY = 0.15
_LABEL_WEIGHT = 3


def _fold(title: str) -> str:
    return " ".join(re.findall(r"\w+", title.casefold()))


def _count_words(text: str) -> Counter[str]:
    return Counter(word for word in re.findall(r"\w+", text.casefold()) if len(word) > 2)


class MacroIndex:
    """The macros of a helpdesk, searchable by name and by words."""

    def __init__(self, macros: Sequence[Macro]) -> None:
        self._by_title = {_fold(macro.title): macro for macro in macros}
        self._by_id = {macro.macro_id: macro for macro in macros}
        self._by_text = {_fold(macro.text): macro for macro in macros if _fold(macro.text)}
        self._words = [(macro, _count_words(f"{macro.title} {macro.title} {macro.text}")) for macro in macros]
        self._n_with = Counter(word for _, words in self._words for word in words)

    def find(self, name: str) -> Macro | None:
        """Return the macro of that title, id or very text, or None. Case and punctuation do not matter."""
        return self._by_id.get(name) or self._by_title.get(_fold(name)) or self._by_text.get(_fold(name))

    def find_labels_of(self, name: str, label_set: LabelSet) -> tuple[str, ...]:
        """Return the labels whose own macro that is: a label set names a macro by its title or holds its text."""
        macro = self.find(name)
        spellings = {_fold(name)} | ({_fold(macro.title), _fold(macro.text)} if macro is not None else set())
        return tuple(label.name for label in label_set.labels if label.macro and _fold(label.macro) in spellings - {""})

    def suggest(self, label: Label, text: str) -> Macro | None:
        """Return the macro for a ticket of that label, or None where none is near."""
        named = self.find(label.macro) if label.macro else None
        if named is not None:
            return named
        wanted = _count_words(text)
        about = f"{label.name.replace('_', ' ')} {label.description} {label.macro or ''}"
        for word, count in _count_words(about).items():
            wanted[word] += _LABEL_WEIGHT * count
        best, similarity = None, MIN_SIMILARITY
        for macro, words in self._words:
            found = self._compare(wanted, words)
            if found > similarity:
                best, similarity = macro, found
        return best

    def _compare(self, left: Counter[str], right: Counter[str]) -> float:
        """Cosine of the two, each word weighted by how few macros have it."""
        dot = sum(count * right[word] * self._weigh(word) ** 2 for word, count in left.items() if word in right)
        return dot / (self._measure(left) * self._measure(right)) if dot else 0.0

    def _weigh(self, word: str) -> float:
        return math.log(1 + (1 + len(self._words)) / (1 + self._n_with[word]))

    def _measure(self, words: Counter[str]) -> float:
        return math.sqrt(sum((count * self._weigh(word)) ** 2 for word, count in words.items()))
