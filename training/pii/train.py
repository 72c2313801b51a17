"""Trains the name model: one spaCy `ner` on one core, checkpoints chosen by recall-weighted score on held-out mail.

Knows nothing of the masker around the model.
"""

import logging
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example, biluo_tags_to_spans, iob_to_biluo
from spacy.training.batchers import minibatch_by_words
from spacy.util import filter_spans, fix_random_seed
from thinc.api import Adam

from bot.masking.lexicon import FILE_NAME, Lexicon, save_lexicon
from bot.masking.pipeline import LABELS, build_language, load_pipeline, save_pipeline
from training.pii.corpus import Sentence, grouped, load_sentences, prose, training_sentences
from training.pii.evaluate import Counts, score_sentences
from training.pii.gazetteer import build_lexicon, hidden_words
from training.pii.synthetic import generate

logger = logging.getLogger(__name__)

BATCH_WORDS: Final = 1000


@dataclass(frozen=True)
class Recipe:
    """What one training run does. Steps are batches of about 1 000 words."""

    steps: int = 4500
    check_every: int = 250
    first_check: int = 2000
    synthetic_texts: int = 6500
    dropout: float = 0.3
    learn_rate: float = 0.001
    seed: int = 7


def _examples(nlp: Language, sentences: list[Sentence], recipe: Recipe) -> list[Example]:
    rng = random.Random(recipe.seed)  # noqa: S311 - a reproducible draw
    examples = []
    for words, tags in grouped(sentences, rng):
        predicted = Doc(nlp.vocab, words=words)
        gold = Doc(nlp.vocab, words=words)
        gold.ents = tuple(biluo_tags_to_spans(gold, iob_to_biluo(tags)))
        examples.append(Example(predicted, gold))
    for text, spans in generate(recipe.synthetic_texts, recipe.seed):
        predicted, gold = nlp.make_doc(text), nlp.make_doc(text)
        # spaCy does not split "@Ann" or "York/Leeds": a span grows to whole tokens.
        found = (gold.char_span(start, end, label=label, alignment_mode="expand") for start, end, label in spans)
        gold.ents = filter_spans([span for span in found if span is not None])
        examples.append(Example(predicted, gold))
    return examples


def _batches(examples: list[Example], recipe: Recipe) -> Iterator[list[Example]]:
    rng = random.Random(recipe.seed + 1)  # noqa: S311 - a reproducible draw
    while True:
        rng.shuffle(examples)
        yield from minibatch_by_words(examples, size=BATCH_WORDS, discard_oversize=False)


def _dev_score(
    trained: Language, lexicon: Lexicon, sentences: list[Sentence], directory: Path
) -> tuple[float, dict[str, Counts]]:
    """F2 over mail persons (twice) and all persons and places, with the whole lexicon visible."""
    save_pipeline(trained, directory)
    save_lexicon(lexicon, directory / FILE_NAME)
    nlp = load_pipeline(directory)
    everything = score_sentences(nlp, sentences)
    mail = score_sentences(nlp, [s for s in sentences if s.genre == "email"])
    score = (2 * mail["PERSON"].f2 + everything["PERSON"].f2 + everything["LOCATION"].f2) / 4
    return score, {"mail PERSON": mail["PERSON"], "PERSON": everything["PERSON"], "LOCATION": everything["LOCATION"]}


def train(data: Path, output: Path, recipe: Recipe) -> dict[str, Any]:
    """Build the word list, train, and leave the best checkpoint in `output`. Returns its step and scores."""
    fix_random_seed(recipe.seed)
    sentences = training_sentences(data, recipe.seed)
    lexicon = build_lexicon(prose(data, sentences))
    logger.info("%d sentences, %d listed words", len(sentences), len(lexicon.words))
    nlp = build_language(lexicon.without(hidden_words(lexicon)))
    examples = _examples(nlp, sentences, recipe)
    ner = nlp.get_pipe("ner")
    for label in LABELS:
        ner.add_label(label)
    nlp.initialize(lambda: examples[:500])
    optimizer = Adam(recipe.learn_rate, use_averages=True)
    dev = load_sentences(data, "ner/uner_ewt", "dev")
    best: dict[str, Any] = {"score": -1.0}  # the first check always leaves a model
    work = output.with_name(output.name + ".checkpoint")
    losses: dict[str, float] = {}
    for step, batch in enumerate(_batches(examples, recipe), start=1):
        nlp.update(batch, sgd=optimizer, drop=recipe.dropout, losses=losses)
        if step == recipe.steps or (step >= recipe.first_check and step % recipe.check_every == 0):
            # Averaged weights vary less from checkpoint to checkpoint than the last step's.
            with nlp.use_params(optimizer.averages):
                score, counts = _dev_score(nlp, lexicon, dev, work)
            logger.info("step %d loss %.0f score %.4f %s", step, losses.pop("ner", 0.0), score, counts)
            if score > best["score"]:
                best = {"score": score, "step": step, "dev": {k: c.as_dict() for k, c in counts.items()}}
                shutil.copytree(work, output, dirs_exist_ok=True)
        if step >= recipe.steps:
            break
    return best
