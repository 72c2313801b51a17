"""Every rule of the masker, by theme. Knows nothing of how rules are run."""

from bot.masking.lexicon import Lexicon
from bot.masking.recognizers import address, contact, finance, identity, names, secrets, usernames
from bot.masking.rules import Rule

__all__ = ["build_rules"]


def build_rules(lexicon: Lexicon) -> tuple[Rule, ...]:
    """All rules; those on names ask the lexicon whether a word can be a name."""
    return (
        *secrets.RULES,
        *contact.RULES,
        *finance.RULES,
        *identity.RULES,
        *usernames.RULES,
        *address.RULES,
        *names.build_rules(lexicon),
    )
