"""Every rule of the masker, by theme. Knows nothing of how rules are run."""

from collections.abc import Callable

from bot.masking.lexicon import Lexicon
from bot.masking.recognizers import address, contact, finance, health, identity, markup, names, numbers, secrets, usernames
from bot.masking.rules import Rule

__all__ = ["build_rules"]


def build_rules(lexicon: Lexicon, is_wanted: Callable[[str], bool] = lambda _: True) -> tuple[Rule, ...]:
    """The rules of all wanted entity types; those on names ask the lexicon whether a word can be a name."""
    rules = (
        *secrets.RULES,
        *contact.RULES,
        *finance.RULES,
        *identity.RULES,
        *usernames.RULES,
        *address.RULES,
        *numbers.RULES,
        *health.RULES,
        *markup.RULES,
        *names.build_rules(lexicon),
    )
    return tuple(rule for rule in rules if is_wanted(rule.entity))
