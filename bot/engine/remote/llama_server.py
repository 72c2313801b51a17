"""A running llama-server as the backend: which of its LoRA files is which bundle, and what it must be asked so that no answer mixes them.

llama-server reads LoRA files only at its start. Completions name their adapter in each request; embeddings do not take one, so there
the server's own scales are set and requests of one adapter go through at a time (`bot.engine.remote.gate`). Knows no labels or heads.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from bot.bundle import hash_file
from bot.engine.gguf_file import GGUFHead
from bot.engine.protocol import AdapterMissingError, EngineError, FloatArray, ModelFileError
from bot.engine.remote.answers_llama import pick, read_best, read_embeddings, read_files, read_piece, read_probabilities
from bot.engine.remote.backend import Piece, Writing
from bot.engine.remote.gate import GroupGate
from bot.engine.remote.http import HttpClient
from bot.engine.remote.settings import RemoteSettings
from bot.types import BASE
from db.types import ModelKind

BIAS: Final = 100.0
"""Added to the logits of the tokens that are asked about: all others vanish, the ones asked about keep their ratios."""
CARRIER_BIASES: Final = (0.0, 40.0, 80.0)
"""By how much more a token is favoured that is asked for nothing but to be drawn; see `_find_carrier`."""
CHECK_EVERY_S: Final = 1.0
"""How old the knowledge of an embedding server's scales may be: another client could set them."""
ATTEMPTS: Final = 3


class LlamaServer:
    """Implements `backend.Backend`."""

    def __init__(self, client: HttpClient, *, path: Path, head: GGUFHead, kind: ModelKind, settings: RemoteSettings) -> None:
        self._client = client
        self._path = path
        self._head = head
        self._kind = kind
        self._settings = settings
        self._files: tuple[str, ...] = ()
        self._wanted: dict[str, Path] = {}
        self._epoch = 0
        self._checked: tuple[int, float] = (-1, 0.0)
        self._checking = asyncio.Lock()
        self._gate = GroupGate(self._set_scales)
        self._letters: tuple[int, ...] = ()
        self.n_ctx = 0

    async def open(self) -> None:
        """Connect and check that the server serves this base. Raises ModelFileError or EngineError."""
        self._client.open()
        try:
            await self._check_model()
            self._files = read_files(await self._client.get("/lora-adapters"))
        except BaseException:
            await self._client.close()
            raise

    async def close(self) -> None:
        """Drop every connection."""
        await self._client.close()

    async def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Return token ids by the server's vocabulary."""
        body = {"content": text, "add_special": add_special, "parse_special": parse_special}
        return pick(
            lambda found: list(map(int, found["tokens"])),
            await self._client.post("/tokenize", body, holds_text=True),
            self._client.url,
        )

    async def embed(self, tokens: Sequence[Sequence[int]], group: str) -> FloatArray:
        """Return pooled embeddings, shape (n, n_embd), all under one adapter."""
        body = {"input": [list(row) for row in tokens], "encoding_format": "float"}
        async with AsyncExitStack() as stack:
            if self._files:
                await stack.enter_async_context(self._gate.hold(group))
            found = await self._call("/v1/embeddings", lambda: body)
        return pick(read_embeddings, found, self._client.url)

    async def read_choice(self, prompt: Sequence[int], options: Sequence[int], group: str) -> FloatArray:
        """Return log-probabilities of `options` among themselves, shape (n_options,)."""
        carrier = await self._find_carrier(options)
        body: dict[str, Any] = {"post_sampling_probs": True, "temperature": 1.0, "samplers": []}
        for extra in CARRIER_BIASES:
            bias = [[token, BIAS] for token in options] + ([[carrier, BIAS + extra]] if extra else [])
            found = await self._complete(prompt, group, body | {"n_probs": len(bias), "logit_bias": bias})
            if found.get("completion_probabilities"):
                break
        listed = pick(read_probabilities, found, self._client.url)
        smallest = float(np.finfo(np.float32).tiny)
        return np.log(np.array([max(listed.get(token, 0.0), smallest) for token in options], np.float64)).astype(np.float32)

    async def read_tokens(self, prompt: Sequence[int], options: Sequence[int], group: str) -> FloatArray:
        """Return log-probabilities of `options` among the vocabulary: their ratios to the most probable token, and that one's own."""
        carrier = await self._find_carrier(())
        body = {"n_probs": 1, "post_sampling_probs": False, "samplers": [], "logit_bias": [[carrier, BIAS]]}
        best, at = pick(read_best, await self._complete(prompt, group, body), self._client.url)
        asked = list(dict.fromkeys((best, *options)))
        ratios = dict(zip(asked, await self.read_choice(prompt, asked, group), strict=True))
        return np.asarray([ratios[token] - ratios[best] + at for token in options], np.float32)

    async def _find_carrier(self, options: Sequence[int]) -> int:
        """Return a token outside `options` that is a whole character.

        llama-server leaves the probabilities out where the token that it happens to draw is half a character; then this one is drawn.
        """
        if not self._letters:
            read = await asyncio.gather(*(self.tokenize(letter, add_special=False, parse_special=False) for letter in "abcdefgh"))
            self._letters = tuple(tokens[-1] for tokens in read if tokens)
        return next((token for token in self._letters if token not in options), self._letters[0])

    async def write(self, prompt: Sequence[int], writing: Writing, group: str) -> AsyncGenerator[Piece, None]:
        """Stream text; starts over where the server turns out to be another process than was known, unless text was given out already."""
        for _ in range(ATTEMPTS):
            await self._check_adapters()
            epoch = self._epoch
            body = {
                "prompt": list(prompt),
                "n_predict": writing.max_tokens,
                "stream": True,
                "stop": list(writing.stop),
                "seed": writing.seed,
                "temperature": max(writing.temperature, 0.0),
                "samplers": ["temperature"],
                **self._choose_lora(group),
            }
            last: Piece | None = None
            is_begun = False
            events = self._client.stream("/completion", body)
            try:
                async for event in events:
                    await self._check_adapters()
                    if epoch != self._epoch:
                        if is_begun:
                            raise EngineError(
                                f"the model server at {self._client.url} was started again within an answer; ask again"
                            )
                        break
                    piece = pick(read_piece, event, self._client.url)
                    if piece.is_last:
                        last = piece
                    else:
                        is_begun = True
                        yield piece
            finally:
                await events.aclose()
            if last is not None:
                yield last
                return
            if epoch == self._epoch:
                raise EngineError(f"the model server at {self._client.url} ended its answer early; see its log")
        raise EngineError(self._describe_restarts())

    async def attach(self, group: str, lora: Path) -> None:
        """Find a LoRA file among those that the server was started with. Raises AdapterMissingError."""
        await self._check_adapters(is_forced=True)
        if _find_file(self._files, lora) is None:
            listed = ", ".join(self._files) or "none"
            message = (
                f"the llama-server at {self._client.url} was not started with the adapter {lora.parent.name[:12]} (it has: {listed}); "
                f"start it again with `--lora {lora} --lora-init-without-apply` beside what it has: it reads adapters only at its start"
            )
            raise AdapterMissingError(message)
        self._wanted[group] = lora

    async def detach(self, group: str) -> None:
        """Forget a group; the server keeps the file until it ends."""
        self._wanted.pop(group, None)

    async def _complete(self, prompt: Sequence[int], group: str, options: Mapping[str, Any]) -> Any:
        return await self._call(
            "/completion", lambda: {"prompt": list(prompt), "n_predict": 1, **self._choose_lora(group), **options}
        )

    async def _call(self, path: str, build: Callable[[], Mapping[str, Any]]) -> Any:
        """Ask, and ask again where the server turns out to be another process than the one whose adapters were known."""
        for _ in range(ATTEMPTS):
            await self._check_adapters()
            epoch = self._epoch
            found = await self._client.post(path, build())
            await self._check_adapters()
            if epoch == self._epoch:
                return found
        raise EngineError(self._describe_restarts())

    def _choose_lora(self, group: str) -> dict[str, Any]:
        """Return what names a group in a completion: every adapter's scale, so that the server's own do not matter.

        Cached prompts are not keyed by adapter in llama-server (ggml-org/llama.cpp#26207), so they are not used unless the operator
        says that it is safe.
        """
        return {"cache_prompt": self._settings.prompt_cache} | ({"lora": self._build_scales(group)} if self._files else {})

    def _build_scales(self, group: str) -> list[dict[str, float]]:
        wanted = self._wanted.get(group)
        at = None if wanted is None else _find_file(self._files, wanted)
        if group != BASE and at is None:
            message = (
                f"the llama-server at {self._client.url} no longer has the adapter {group[:12]}; start it with that --lora again"
            )
            raise EngineError(message)
        return [{"id": index, "scale": float(index == at)} for index in range(len(self._files))]

    async def _set_scales(self, group: str) -> None:
        await self._client.post("/lora-adapters", self._build_scales(group))

    async def _check_adapters(self, *, is_forced: bool = False) -> None:
        """List the server's adapters again after a new connection (it may have been started again), and now and then for embeddings."""
        if not (is_forced or self._is_check_due()):
            return
        async with self._checking:
            while is_forced or self._is_check_due():
                is_forced = False
                seen = self._client.n_connected
                listed = await self._client.get("/lora-adapters")
                await self._compare(listed)
                if self._client.n_connected == seen:
                    self._checked = (seen, asyncio.get_running_loop().time())

    def _is_check_due(self) -> bool:
        seen, at = self._checked
        is_old = self._kind == ModelKind.ENCODER and asyncio.get_running_loop().time() - at > CHECK_EVERY_S
        return seen != self._client.n_connected or (is_old and bool(self._files))

    async def _compare(self, listed: Any) -> None:
        files = read_files(listed)
        group = self._gate.current if self._kind == ModelKind.ENCODER else None
        is_same = files == self._files
        self._files = files
        if group is not None and files:
            scales = self._build_scales(group)
            if [entry["scale"] for entry in scales] != [entry.get("scale") for entry in listed]:
                is_same = False
                await self._client.post("/lora-adapters", scales)
        self._epoch += not is_same

    async def _check_model(self) -> None:
        """Compare what the server says of its model with the local file, so that a wrong URL is found before a wrong answer."""
        url = self._client.url
        data = pick(lambda found: dict(found["data"][0]), await self._client.get("/v1/models"), url)
        meta = data.get("meta") or {}
        size = sum(info.n_bytes for info in self._head.tensors.values())
        n_vocab = self._head.array_lengths.get("tokenizer.ggml.tokens", 0)
        if meta and (meta.get("size"), meta.get("n_vocab")) != (size, n_vocab):
            message = (
                f"the llama-server at {url} serves another model than {self._path.name} ({meta.get('size')} bytes of weights and "
                f"{meta.get('n_vocab')} tokens, expected {size} and {n_vocab}); start it with that file, or correct the setting"
            )
            raise ModelFileError(message)
        props = await self._client.get("/props")
        self.n_ctx = pick(lambda found: int(found["default_generation_settings"]["n_ctx"]), props, url)
        await asyncio.to_thread(self._check_file, str(props.get("model_path", "")))

    def _check_file(self, served: str) -> None:
        """Where the server's file can be seen from here, its bytes must be the local file's."""
        other = Path(served)
        if not served or not other.is_file() or other.samefile(self._path):
            return
        if hash_file(other) != hash_file(self._path):
            message = f"the llama-server at {self._client.url} serves {other}, whose bytes differ from {self._path}; use one file for both"
            raise ModelFileError(message)

    def _describe_restarts(self) -> str:
        return (
            f"the adapters of the llama-server at {self._client.url} keep changing while it answers; it must serve this bot alone, "
            "and not be started again and again"
        )


def _find_file(files: Sequence[str], lora: Path) -> int | None:
    """Return the place of a LoRA file in the server's list: the same path, or, where folders are mounted elsewhere, the same digest folder."""
    exact = str(lora.resolve())
    for index, name in enumerate(files):
        if name in {str(lora), exact}:
            return index
    digest = lora.parent.name
    if len(digest) == 64:
        for index, name in enumerate(files):
            if PurePosixPath(name.replace("\\", "/")).parent.name == digest:
                return index
    return None
