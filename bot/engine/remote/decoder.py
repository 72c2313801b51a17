"""Answers of a decoder on a server: labels by the local engine's search on the token trie, text as a stream.

Knows token ids and tries, not HTTP.
"""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import numpy as np

from bot.engine.adapters import LoadedAdapter
from bot.engine.decoder import DecoderRuntime
from bot.engine.decoder_answers import DecoderAnswers
from bot.engine.protocol import Chunk, FloatArray, GenerateRequest, Priority
from bot.engine.remote.backend import Backend, Writing
from bot.engine.remote.link import Link
from bot.engine.remote.reading import Reader, ReadText
from bot.engine.search import FORESEEN_SHARE, LabelSearch, Prior
from bot.engine.slots import Prompt, Scored
from bot.engine.trie import LabelTrie


class RemoteDecoderAnswers(DecoderAnswers):
    """`DecoderAnswers` with what touches the model replaced: reading probabilities, writing, attaching and detaching weights."""

    def __init__(self, link: Link, *, backend: Backend, reader: Reader, seed: int) -> None:
        super().__init__(cast("DecoderRuntime", link.runtime), link)  # what would use the local runtime is replaced below
        self._backend = backend
        self._reader = reader
        self._seed = seed

    async def generate(self, request: GenerateRequest, adapter: LoadedAdapter) -> AsyncGenerator[Chunk, None]:
        """Stream text; closing the iterator ends the work on the server."""
        read = await self._read(Prompt(request.prefix, request.text, request.suffix), n_answer=request.max_tokens)
        last = Chunk("", adapter.digest, is_last=True, is_truncated=read.is_truncated, n_tokens=len(read.tokens))
        if request.max_tokens < 1:
            yield last
            return
        stop = tuple(mark for mark in request.stop if mark)
        writing = Writing(max_tokens=request.max_tokens, stop=stop, temperature=request.temperature, seed=self._seed)
        pieces = self._backend.write(read.tokens, writing, adapter.group)
        try:
            async for piece in pieces:
                if piece.is_last:
                    n_tokens = last.n_tokens + piece.n_written
                    yield Chunk(piece.text, adapter.digest, is_last=True, is_truncated=read.is_truncated, n_tokens=n_tokens)
                    return
                if piece.text:
                    yield Chunk(piece.text, adapter.digest)
        finally:
            await pieces.aclose()

    async def attach(self, group: str, lora: Path) -> None:
        """Make LoRA weights usable on the server. Raises AdapterError."""
        await self._backend.attach(group, lora)

    async def detach(self, group: str) -> None:
        """Give LoRA weights back and forget the priors computed with them."""
        for key in [key for key in self._priors if key[0] == group]:
            del self._priors[key]
        await self._backend.detach(group)

    async def _run(
        self,
        prompt: Prompt,
        group: str,
        *,
        answers: tuple[str, ...] | None = None,
        top_k: int = 0,
        prior: Prior | None = None,
        probe_tokens: tuple[int, ...] = (),
        priority: Priority = Priority.INTERACTIVE,  # noqa: ARG002 - servers have one queue
    ) -> Scored:
        """Read the label tree as far as it matters, or the tokens of a probe."""
        if answers is None:
            read = await self._read(prompt, n_answer=1)
            found = await self._backend.read_tokens(read.tokens, probe_tokens, group)
        else:
            trie = await self._reader.read_trie(answers)
            read = await self._read(prompt, n_answer=1 + max((token.depth for token in trie.tokens), default=0))
            found = await self._search(read.tokens, group, trie, LabelSearch(trie, top_k=top_k, prior=prior))
        return Scored(np.asarray(found, np.float32), len(read.tokens), is_truncated=read.is_truncated)

    async def _search(self, prompt: tuple[int, ...], group: str, trie: LabelTrie, search: LabelSearch) -> FloatArray:
        """Ask for branches, those together that are wanted together and those that probably will be, until the search is done."""
        while wanted := search.choose():
            foreseen = (branch for branch, mass in search.foresee() if mass >= FORESEEN_SHARE)
            wave = list(dict.fromkeys((*wanted, *foreseen)))
            rows = await asyncio.gather(*(self._read_branch(prompt, group, trie, branch) for branch in wave))
            for branch, row in zip(wave, rows, strict=True):
                search.put(branch, row)
        return search.finish()

    async def _read_branch(self, prompt: tuple[int, ...], group: str, trie: LabelTrie, branch: int) -> FloatArray:
        way = [trie.tokens[index].token for index in trie.get_path(trie.ends[branch])]
        return await self._backend.read_choice((*prompt, *way), trie.branches[branch], group)

    async def _read(self, prompt: Prompt, *, n_answer: int) -> ReadText:
        return await self._reader.read_prompt(prompt, n_answer=n_answer)
