"""What the trained model itself answers in torch, to compare with what is served.

Knows label sets and logits; not files or engines.
"""

from collections.abc import Sequence

import numpy as np
import torch

from bot.engine.protocol import ChoiceSet, FloatArray
from training.decoder.loop import Learner, compute_log_probability
from training.decoder.pack import build_packs
from training.decoder.tokens import PromptTokens, build_choice
from training.export import ExportError

MAX_DISAGREEMENT = 0.1
"""Mean total variation between served and trained answers that a run on the served weights may have."""


def score_choices(learner: Learner, reader: PromptTokens, choices: ChoiceSet, texts: Sequence[str]) -> FloatArray:
    """Return log-probabilities of all labels before calibration, shape (n, n_labels), in float32."""
    tokens = reader.read_choices(choices)
    result = np.empty((len(texts), len(choices.names)), np.float32)
    was_training = learner.model.training
    learner.model.eval()
    with torch.inference_mode():
        for row, text in enumerate(texts):
            prefix, own = reader.read_prompt(choices.prefix, text, choices.suffix)
            every = [build_choice(own, tokens, label, weight=1.0, is_negative=False) for label in range(len(choices.names))]
            places = {id(completion): label for label, completion in enumerate(every)}
            for pack in build_packs(prefix, every, limit=max(1024, 2 * len(prefix))):
                logits = learner.compute_logits(pack, use_bf16=False)
                for completion, first in zip(pack.completions, pack.first, strict=True):
                    rows = logits[first : first + completion.n_outputs]
                    result[row, places[id(completion)]] = float(compute_log_probability(rows, completion))
    learner.model.train(was_training)
    return result


def check_agreement(trained: FloatArray, served: FloatArray) -> None:
    """Raise ExportError where the served adapter computes something else than was trained."""
    difference = float(np.abs(np.exp(trained) - np.exp(served)).sum(axis=1).mean() / 2)
    if difference > MAX_DISAGREEMENT:
        raise ExportError(f"the exported adapter gives other answers than were trained (difference {difference:.3f})")
