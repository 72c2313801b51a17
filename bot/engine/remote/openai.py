"""An OpenAI-compatible server as the backend: adapters are models of their own there, loaded and unloaded while it runs (vLLM).

Uses /v1/completions with token ids and log-probabilities, /v1/embeddings, /tokenize, and vLLM's load and unload of LoRA adapters.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from bot.bundle import PEFT_CONFIG_FILE, PEFT_WEIGHTS_FILE
from bot.engine.gguf_file import GGUFHead
from bot.engine.protocol import AdapterError, EngineError, FloatArray
from bot.engine.remote.answers_openai import pick, read_logprobs, read_models, read_piece, read_vectors
from bot.engine.remote.backend import Piece, Writing
from bot.engine.remote.controls import read_control_tokens, split_at_controls
from bot.engine.remote.http import HttpClient, ServerError
from bot.engine.remote.settings import RemoteSettings
from bot.types import BASE

logger = logging.getLogger(__name__)
OPTIONS_LIMIT: Final = 128
"""Token ids that one request may ask log-probabilities of (vLLM's bound of `logprob_token_ids`)."""
NOT_FOUND: Final = 404
BAD_REQUEST: Final = 400


class OpenAIServer:
    """Implements `backend.Backend`."""

    def __init__(self, client: HttpClient, *, path: Path, head: GGUFHead, settings: RemoteSettings, model: str | None) -> None:
        self._client = client
        self._path = path
        self._head = head
        self._settings = settings
        self._model = model or ""
        self._attached: dict[str, str] = {}
        self._controls: dict[int, str] = {}
        self._loading = asyncio.Lock()
        self._n_loads = 0
        self.n_ctx = 0

    async def open(self) -> None:
        """Connect, and see that the server lists the base model. Raises EngineError."""
        self._client.open()
        try:
            await self._choose_model()
            self._controls = await asyncio.to_thread(read_control_tokens, self._path)
        except BaseException:
            await self._client.close()
            raise

    async def _choose_model(self) -> None:
        models = pick(read_models, await self._client.get("/v1/models"), self._client.url)
        if not models or (self._model and self._model not in models):
            served = ", ".join(sorted(models)) or "none"
            message = f"the model server at {self._client.url} does not serve {self._model or 'any model'}; it lists: {served}"
            raise EngineError(message)
        self._model = self._model or next(iter(models))
        self.n_ctx = models[self._model]

    async def close(self) -> None:
        """Drop every connection."""
        await self._client.close()

    async def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Return token ids. Servers that read control sequences in any text are given such a sequence in two halves."""
        tokens = await self._tokenize(text, add_special=add_special, parse_special=parse_special)
        own = tokens if not add_special else []
        if parse_special or not any(token in self._controls for token in own):
            return tokens
        parts = split_at_controls(text, self._controls.values())
        read = await asyncio.gather(*(self._tokenize(part, add_special=False, parse_special=False) for part in parts))
        return [token for part in read for token in part if token not in self._controls]

    async def embed(self, tokens: Sequence[Sequence[int]], group: str) -> FloatArray:
        """Return pooled embeddings, shape (n, n_embd)."""
        found = await self._ask("/v1/embeddings", group, {"input": [list(row) for row in tokens], "encoding_format": "float"})
        return pick(read_vectors, found, self._client.url)

    async def read_choice(self, prompt: Sequence[int], options: Sequence[int], group: str) -> FloatArray:
        """Return log-probabilities of `options`, shape (n_options,)."""
        return await self.read_tokens(prompt, options, group)

    async def read_tokens(self, prompt: Sequence[int], options: Sequence[int], group: str) -> FloatArray:
        """Return log-probabilities of `options` among the vocabulary.

        A server that does not know `logprob_token_ids` lists its most probable tokens instead; what is missing then shares what they
        leave over, and is never taken for more probable than the last one listed.
        """
        parts = [options[start : start + OPTIONS_LIMIT] for start in range(0, len(options), OPTIONS_LIMIT)]
        listed: dict[int, float] = {}
        for found in await asyncio.gather(*(self._read_part(prompt, part, group) for part in parts)):
            listed |= found
        n_vocab = self._head.array_lengths.get("tokenizer.ggml.tokens", 0)
        left = max(1.0 - float(np.exp(list(listed.values())).sum()), 1e-12) / max(n_vocab - len(listed), 1)
        bound = min(float(np.log(left)), min(listed.values(), default=0.0))
        return np.array([listed.get(token, bound) for token in options], np.float32)

    async def _read_part(self, prompt: Sequence[int], options: Sequence[int], group: str) -> dict[int, float]:
        body = {
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0.0,
            "logprobs": self._settings.top_logprobs,
            "logprob_token_ids": list(options),
            "return_tokens_as_token_ids": True,
            "add_special_tokens": False,
            "cache_prompt": self._settings.prompt_cache,
        }
        found = await self._ask("/v1/completions", group, body)
        if pick(lambda answer: answer["choices"][0]["logprobs"], found, self._client.url) is None:
            # llama-server tells no probabilities where it drew half a character: have it draw a whole one, they stay what they are
            letter = (await self.tokenize("a", add_special=False, parse_special=False))[-1]
            found = await self._ask("/v1/completions", group, body | {"logit_bias": {str(letter): 100}})
        return pick(read_logprobs, found, self._client.url)

    async def write(self, prompt: Sequence[int], writing: Writing, group: str) -> AsyncGenerator[Piece, None]:
        """Stream text."""
        body = {
            "model": self._get_name(group),
            "prompt": list(prompt),
            "max_tokens": writing.max_tokens,
            "temperature": max(writing.temperature, 0.0),
            "seed": writing.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            "add_special_tokens": False,
            "cache_prompt": self._settings.prompt_cache,
        }
        if writing.stop:
            body["stop"] = list(writing.stop)
        n_written, is_ended = 0, False
        events = await self._open_stream("/v1/completions", group, body)
        try:
            async for event in events:
                self._check_name(event, group)
                piece, has_ended = pick(read_piece, event, self._client.url)
                n_written = max(n_written, piece.n_written)
                is_ended = is_ended or has_ended
                yield Piece(piece.text)
        finally:
            await events.aclose()
        if not is_ended:
            raise EngineError(f"the model server at {self._client.url} ended its answer early; see its log")
        yield Piece("", is_last=True, n_written=n_written)

    async def attach(self, group: str, lora: Path) -> None:
        """Have the server load a bundle's PEFT files under the bundle's digest. Raises AdapterError."""
        folder = lora.parent
        missing = [name for name in (PEFT_WEIGHTS_FILE, PEFT_CONFIG_FILE) if not (folder / name).is_file()]
        if missing:
            message = (
                f"the model server at {self._client.url} loads adapters in PEFT's form, and bundle {folder.name[:12]} has no {missing[0]}; "
                "write it there before the bundle is sealed (docs/remote-engines.md), or serve the bundle with llama-server"
            )
            raise AdapterError(message)
        served = str(folder.resolve())
        if self._settings.adapters_dir:
            served = str(PurePosixPath(self._settings.adapters_dir) / folder.name)
        await self._load(group, served)
        self._attached[group] = served

    async def detach(self, group: str) -> None:
        """Have the server unload a group's weights."""
        if self._attached.pop(group, None) is None:
            return
        try:
            await self._client.post_plain("/v1/unload_lora_adapter", {"lora_name": group})
        except ServerError as error:
            if error.status not in {NOT_FOUND, BAD_REQUEST}:  # those say that it is gone already
                raise

    async def _load(self, group: str, served: str) -> None:
        """Load under a name that is the content's digest: what is loaded under it already is the same content."""
        try:
            await self._client.post_plain("/v1/load_lora_adapter", {"lora_name": group, "lora_path": served})
            self._n_loads += 1
        except ServerError as error:
            if error.status == BAD_REQUEST and "already been loaded" in str(error):
                return
            advice = (
                "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
                if error.status == NOT_FOUND
                else f"see its log, and whether it can read {served}"
            )
            raise AdapterError(f"{error}; {advice}") from error

    async def _ask(self, path: str, group: str, body: Mapping[str, Any]) -> Any:
        """Ask under a group's name; a server that was started again and lost the adapter gets it once more."""
        n_loads = self._n_loads
        try:
            found = await self._client.post(path, {"model": self._get_name(group), **body})
        except ServerError as error:
            await self._load_again(error, group, n_loads=n_loads)
            found = await self._client.post(path, {"model": self._get_name(group), **body})
        self._check_name(found, group)
        return found

    async def _load_again(self, error: ServerError, group: str, *, n_loads: int) -> None:
        """Load an adapter that the server says it does not know, unless it was loaded since; raises any other error again."""
        if error.status != NOT_FOUND or group not in self._attached:
            raise error
        async with self._loading:
            if n_loads == self._n_loads:  # nobody else has seen to it meanwhile
                logger.warning(
                    "the model server at %s no longer knows adapter %s: loading it again", self._client.url, group[:12]
                )
                await self._load(group, self._attached[group])

    async def _open_stream(self, path: str, group: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Return the events of an answer, begun; a server that lost the adapter gets it once more."""
        n_loads = self._n_loads
        events = self._client.stream(path, body)
        try:
            first = await anext(events, None)
        except ServerError as error:
            await events.aclose()
            await self._load_again(error, group, n_loads=n_loads)
            events = self._client.stream(path, body)
            first = await anext(events, None)
        return _join(first, events)

    def _get_name(self, group: str) -> str:
        return self._model if group == BASE else group

    def _check_name(self, found: Any, group: str) -> None:
        """Refuse an answer that names another adapter than the one that was asked."""
        name = found.get("model") if isinstance(found, dict) else None
        if group != BASE and name != group:  # noqa: PLR1714 - two questions, not one
            message = f"the model server at {self._client.url} answered with model {name} in place of adapter {group[:12]}; it ignores adapters"
            raise EngineError(message)

    async def _tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Ask for token ids: vLLM reads the first three fields, llama-server the others."""
        body = {
            "model": self._model,
            "prompt": text,
            "add_special_tokens": add_special,
            "content": text,
            "add_special": add_special,
            "parse_special": parse_special,
        }
        found = await self._client.post("/tokenize", body, holds_text=True)
        return pick(lambda answer: list(map(int, answer["tokens"])), found, self._client.url)


async def _join(
    first: dict[str, Any] | None, events: AsyncGenerator[dict[str, Any], None]
) -> AsyncGenerator[dict[str, Any], None]:
    try:
        if first is not None:
            yield first
            async for event in events:
                yield event
    finally:
        await events.aclose()
