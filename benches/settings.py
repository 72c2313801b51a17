"""How large a run of the engine bench is.

Knows numbers only.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class BenchSettings:
    """Sizes of one run; the defaults are those of the published figures."""

    threads: int = 2
    rounds: int = 5
    decoder_rounds: int = 3
    encoder_tickets: int = 300
    decoder_tickets: int = 40
    python_tickets: int = 12
    summaries: int = 24
    summary_tokens: int = 64
    concurrencies: tuple[int, ...] = (1, 8, 32)
    with_bf16: bool = True

    @classmethod
    def quick(cls, *, threads: int) -> "BenchSettings":
        """Return sizes that end in about two minutes: right in direction, not fit to publish."""
        return cls(
            threads=threads,
            rounds=2,
            encoder_tickets=160,
            decoder_tickets=24,
            summaries=8,
            summary_tokens=24,
            concurrencies=(1, 8),
        )
