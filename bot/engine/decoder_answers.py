"""Answers of a decoder: label distributions with the label prior taken out, and streamed text.

Knows choice sets, calibration and null tickets; not batches, threads or how an adapter becomes active.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bot.bundle import Bundle, Calibration, Manifest
from bot.engine.adapters import LoadedAdapter
from bot.engine.answers import Outputs
from bot.engine.decoder import DecoderRuntime
from bot.engine.protocol import (
    ChoiceSet,
    Chunk,
    EngineError,
    FloatArray,
    GenerateRequest,
    Priority,
    Ranking,
    RankRequest,
    ScoreRequest,
    Scores,
)
from bot.engine.search import Prior
from bot.engine.slots import DecodeJob, Piece, Prompt, Scored
from bot.engine.worker import Worker, settle, settle_error
from db.types import ModelKind, TaskKind

NULL_TICKETS: Final = ("ticket", "hello please help", "...")
"""Texts that say nothing: what a label scores on them is its prior, not evidence."""
PRIOR_CACHE: Final = 64
N_PROBE_TOKENS: Final = 8
_BASE_CALIBRATION: Final = Calibration(prior_weight=1.0)


class DecoderAnswers:
    """Scores labels and writes text with a decoder."""

    kind = ModelKind.DECODER

    def __init__(self, runtime: DecoderRuntime, worker: Worker) -> None:
        self.runtime = runtime
        self._worker = worker
        self._priors: OrderedDict[tuple[str, ChoiceSet], asyncio.Task[FloatArray]] = OrderedDict()

    async def score(self, request: ScoreRequest, adapter: LoadedAdapter) -> Scores:
        """Return the calibrated distribution over the request's choices."""
        check_choices(request.choices)
        calibration = adapter.bundle.calibration if adapter.bundle is not None else _BASE_CALIBRATION
        prior: FloatArray | None = None
        if calibration.prior_weight > 0:
            prior = await self._get_prior(request.choices, adapter.group)
        scored = await self._score(
            request.text,
            request.choices,
            adapter.group,
            priority=request.priority,
            top_k=self.runtime.label_top_k,
            prior=None if prior is None else Prior(prior, calibration.prior_weight),
        )
        return Scores(
            probabilities=calibrate(scored.log_probabilities, prior, calibration=calibration),
            adapter_digest=adapter.digest,
            embedding=None,
            is_truncated=scored.is_truncated,
            n_tokens=scored.n_tokens,
        )

    async def rank(self, request: RankRequest, adapter: LoadedAdapter) -> Ranking:  # noqa: ARG002
        """Refuse: a decoder writes summaries instead."""
        message = "a decoder cannot rank lines; use generate(), or set model.summary to an encoder"
        raise EngineError(message)

    async def embed(self, texts: Sequence[str], adapter: LoadedAdapter, *, priority: Priority) -> FloatArray:  # noqa: ARG002
        """Refuse: a decoder has no pooled embedding."""
        message = "a decoder gives no embeddings; set model.classification to an encoder"
        raise EngineError(message)

    async def generate(self, request: GenerateRequest, adapter: LoadedAdapter) -> AsyncGenerator[Chunk, None]:
        """Stream text; closing the iterator frees the slot at the next step."""
        pieces: asyncio.Queue[Piece | EngineError] = asyncio.Queue()
        worker = self._worker
        job = DecodeJob(
            prompt=Prompt(request.prefix, request.text, request.suffix),
            group=adapter.group,
            priority=request.priority,
            on_error=lambda error: worker.emit(pieces.put_nowait, error),
            on_piece=lambda piece: worker.emit(pieces.put_nowait, piece),
            max_tokens=request.max_tokens,
            stop=tuple(mark for mark in request.stop if mark),
            temperature=request.temperature,
        )
        worker.post(lambda: self.runtime.submit(job), on_error=job.on_error)
        try:
            while True:
                piece = await pieces.get()
                if isinstance(piece, EngineError):
                    raise piece
                yield Chunk(
                    piece.text, adapter.digest, is_last=piece.is_last, is_truncated=piece.is_truncated, n_tokens=piece.n_tokens
                )
                if piece.is_last:
                    return
        finally:
            job.is_cancelled = True

    async def attach(self, group: str, lora: Path) -> None:
        """Load LoRA weights between two steps. Raises AdapterError."""
        await self._worker.call(lambda: self.runtime.load_lora(group, lora))

    async def detach(self, group: str) -> None:
        """Free LoRA weights and the prefixes computed with them, between two steps."""
        for key in [key for key in self._priors if key[0] == group]:
            del self._priors[key]
        await self._worker.call(lambda: self.runtime.free_lora(group))

    async def admit(self, adapter: LoadedAdapter, bundle: Bundle) -> None:
        """Nothing to read: a decoder's bundle is LoRA weights and calibration."""

    def dismiss(self, adapter: LoadedAdapter) -> None:
        """Nothing was kept beside what `detach` frees."""

    async def measure(self, texts: Sequence[str], group: str, *, directory: Path, manifest: Manifest) -> Outputs:  # noqa: ARG002
        """Return, per whole prompt, the log-probabilities of fixed tokens right after it (see `choose_probe_tokens`)."""
        tokens = choose_probe_tokens(self.runtime.n_vocab)
        prompts = [Prompt("", text, "", is_trusted=True) for text in texts]
        done = await asyncio.gather(
            *(self._run(prompt, group, probe_tokens=tokens, priority=Priority.BULK) for prompt in prompts)
        )
        return tuple(tuple(float(value) for value in scored.log_probabilities) for scored in done)

    async def warm(self, choices: ChoiceSet, adapter: LoadedAdapter) -> None:
        """Read the shared prefix and compute the label prior, behind the requests that wait."""
        check_choices(choices)
        calibration = adapter.bundle.calibration if adapter.bundle is not None else _BASE_CALIBRATION
        if adapter.bundle is not None and adapter.bundle.manifest.task != TaskKind.CLASSIFICATION:
            return
        if calibration.prior_weight > 0:
            await self._get_prior(choices, adapter.group, priority=Priority.BULK)
        else:
            await self._score(NULL_TICKETS[0], choices, adapter.group, priority=Priority.BULK)

    async def _get_prior(self, choices: ChoiceSet, group: str, *, priority: Priority = Priority.INTERACTIVE) -> FloatArray:
        """Return the log of the mean distribution over the null tickets; concurrent first requests share one computation."""
        key = (group, choices)
        running = self._priors.get(key)
        if running is None or (running.done() and (running.cancelled() or running.exception() is not None)):
            running = self._priors[key] = asyncio.get_running_loop().create_task(self._build_prior(choices, group, priority))
            running.add_done_callback(_mark_seen)
            while len(self._priors) > PRIOR_CACHE:
                self._priors.popitem(last=False)
        self._priors.move_to_end(key)
        return await asyncio.shield(running)

    async def _build_prior(self, choices: ChoiceSet, group: str, priority: Priority) -> FloatArray:
        done = await asyncio.gather(*(self._score(text, choices, group, priority=priority) for text in NULL_TICKETS))
        mean = np.mean([np.exp(scored.log_probabilities.astype(np.float64)) for scored in done], axis=0)
        return np.asarray(np.log(np.maximum(mean, 1e-30)), np.float32)

    async def _score(
        self, text: str, choices: ChoiceSet, group: str, *, priority: Priority, top_k: int = 0, prior: Prior | None = None
    ) -> Scored:
        prompt = Prompt(choices.prefix, text, choices.suffix)
        return await self._run(prompt, group, answers=choices.answers, top_k=top_k, prior=prior, priority=priority)

    async def _run(
        self,
        prompt: Prompt,
        group: str,
        *,
        answers: tuple[str, ...] | None = None,
        top_k: int = 0,
        prior: Prior | None = None,
        probe_tokens: tuple[int, ...] = (),
        priority: Priority = Priority.INTERACTIVE,
    ) -> Scored:
        future: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        worker = self._worker
        job = DecodeJob(
            prompt=prompt,
            group=group,
            priority=priority,
            on_error=lambda error: worker.emit(settle_error, future, error),
            on_scored=lambda scored: worker.emit(settle, future, scored),
            answers=answers,
            top_k=top_k,
            prior=prior,
            probe_tokens=probe_tokens,
        )
        worker.post(lambda: self.runtime.submit(job), on_error=job.on_error)
        try:
            return await future
        finally:
            job.is_cancelled = True


def choose_probe_tokens(n_vocab: int) -> tuple[int, ...]:
    """Return the token ids whose log-probabilities a decoder's probe records: evenly spread over the vocabulary, so easy to repeat."""
    return tuple(n_vocab * index // N_PROBE_TOKENS for index in range(N_PROBE_TOKENS))


def check_choices(choices: ChoiceSet) -> None:
    """Raise EngineError where a choice set cannot be scored by a decoder."""
    if not choices.names or len(choices.answers) != len(choices.names):
        message = f"{len(choices.names)} labels have {len(choices.answers)} answers; a decoder needs one answer per label"
        raise EngineError(message)


def calibrate(log_probabilities: FloatArray, prior: FloatArray | None, *, calibration: Calibration) -> FloatArray:
    """Return probabilities: the prior's share taken out, tempered, renormalised; shape (n_answers,), sums to 1."""
    scores = log_probabilities.astype(np.float64)
    if prior is not None:
        scores = scores - calibration.prior_weight * prior
    scores = scores / calibration.temperature
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum(), np.float32)


def _mark_seen(finished: "asyncio.Task[FloatArray]") -> None:
    """Whoever waits gets the error; if all of them have gone, nobody needs to hear of it."""
    if not finished.cancelled():
        finished.exception()
