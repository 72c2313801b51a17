"""Command line of the name model's training: `python -m training.pii --data FOLDER --out FOLDER [--score-only | --masker]`.

Knows only how to call training and measurement and how to print their figures.
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from bot.masking.pipeline import load_pipeline
from training.pii.corpus import TEST_FILE, load_sentences, read_rows
from training.pii.evaluate import score_sentences, score_texts
from training.pii.masker_figures import measure_masker
from training.pii.train import Recipe, train

logger = logging.getLogger(__name__)


def measure(data: Path, model: Path) -> dict[str, Any]:
    """Figures of a trained model on every held-out set, as {set: {label: figures}}."""
    nlp = load_pipeline(model)
    ewt = load_sentences(data, "ner/uner_ewt", "dev")
    scores = {
        "ewt dev": score_sentences(nlp, ewt),
        "ewt dev mail": score_sentences(nlp, [s for s in ewt if s.genre == "email"]),
        "btc dev": score_sentences(nlp, load_sentences(data, "ner/btc", "dev")),
        "wnut17 dev": score_sentences(nlp, load_sentences(data, "ner/wnut17", "dev")),
        "presidio synthetic": score_texts(nlp, list(read_rows(data / f"{TEST_FILE}.jsonl.gz"))),
    }
    return {name: {label: counts.as_dict() for label, counts in totals.items()} for name, totals in scores.items()}


def main() -> None:
    """Parse arguments, train unless asked not to, print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m training.pii", description="Train and measure the name model of the masker.")
    parser.add_argument("--data", type=Path, required=True, help="folder with ner/, pii/ and text/ (JSON Lines, gzip)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained model")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="batches of about 1 000 words (default %(default)s)")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument(
        "--masker", action="store_true", help="measure the whole masker with the model in --out, without training"
    )
    parser.add_argument("--score-only", action="store_true", help="measure the model in --out without training")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.masker:
        print(json.dumps(measure_masker(arguments.data, arguments.out), indent=1))  # noqa: T201 - the command's output
        return
    if not arguments.score_only:
        best = train(arguments.data, arguments.out, Recipe(steps=arguments.steps, seed=arguments.seed))
        logger.info("kept step %s, score %.4f", best["step"], best["score"])
    print(json.dumps(measure(arguments.data, arguments.out), indent=1))  # noqa: T201 - the command's output


if __name__ == "__main__":
    main()
