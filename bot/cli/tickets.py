"""Commands on single texts: classify, summarize."""

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bot.cli.common import run_with_bot
from bot.cli.output import console, print_json, print_table
from bot.errors import UserError
from bot.jsonl import describe_unreadable, replace_surrogates

if TYPE_CHECKING:
    from bot.app import App
    from bot.types import Classification, Summary

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")
FILE_OPTION = typer.Option(None, "--file", "-f", help="Read the text from a file; '-' is standard input.")
TEXT_ARGUMENT = typer.Argument(None, help="The ticket's text.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(classify)
    app.command()(summarize)


def read_text(text: str | None, file: str | None) -> str:
    """Return the text of the argument, of a file, or of standard input; what is no character becomes '?'. Raises UserError."""
    return replace_surrogates(_read_text(text, file))


def _read_text(text: str | None, file: str | None) -> str:
    if text is not None and file is not None:
        raise UserError("give the text or --file, not both")
    try:
        if file == "-" or (text is None and file is None and not sys.stdin.isatty()):
            return sys.stdin.read()
        if file is not None:
            return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file or 'standard input'}: {describe_unreadable(error)}") from None
    if text is None:
        raise UserError("there is no text: give it as an argument, with --file, or on standard input")
    return text


def classify(text: str | None = TEXT_ARGUMENT, file: str | None = FILE_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Suggest a label for one ticket, and record it like any other."""
    from bot.types import SourceRef

    content = read_text(text, file)

    async def work(app: "App") -> "Classification":
        external_id = hashlib.sha256(content.encode()).hexdigest()[:16]
        return await app.bot.classify(content, source=SourceRef(plugin="cli", external_id=external_id))

    card = run_with_bot(work)
    if as_json:
        print_json(card)
    elif card.label is None:
        console.print(card.notice or "No suggestion.", highlight=False)
    else:
        rows = [(score.label, f"{score.probability:.1%}") for score in card.candidates]
        print_table(f"{card.label}  ({card.confidence:.0%})", ("label", "probability"), rows)
        console.print(card.reason, highlight=False)
        for name, value in (*card.fields.items(), ("macro", card.macro), ("adapter", card.adapter_digest[:12])):
            if value:
                console.print(f"{name}: {value}", highlight=False)


def summarize(text: str | None = TEXT_ARGUMENT, file: str | None = FILE_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Summarise one ticket, and record it like any other."""
    from bot.types import SourceRef

    content = read_text(text, file)

    async def work(app: "App") -> "Summary":
        external_id = hashlib.sha256(content.encode()).hexdigest()[:16]
        return await app.bot.summarize(content, source=SourceRef(plugin="cli", external_id=external_id))

    summary = run_with_bot(work)
    if as_json:
        print_json(summary)
    else:
        if summary.text:
            console.print("Excerpt:" if summary.is_excerpt else "Summary:", style="bold")
        console.print(summary.text or summary.notice or "No summary.", highlight=False)
