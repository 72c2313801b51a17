"""The only importer of llama_cpp: a model, a context and a LoRA adapter as objects that own their native pointers.

Knows llama.cpp's calling rules, not requests, prompts or threads. Every object here belongs to one thread, and is freed in the
order adapters, context, model.
"""

import ctypes
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from bot.engine.protocol import AdapterError, EngineError, FloatArray, ModelFileError

logger = logging.getLogger(__name__)

IntArray = NDArray[np.int32]
POOLING_MEAN: Final = 1
_NO_TOKEN: Final = -1
_LOG_LEVELS: Final = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.DEBUG, 4: logging.WARNING}  # debug, info, warn, error


@native.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _: object) -> None:
    """Route llama.cpp's own lines to logging; its continuation lines and progress dots are dropped."""
    line = text.decode("utf-8", errors="replace").strip()
    if line and level in _LOG_LEVELS:
        logger.log(_LOG_LEVELS[level], "%s", line)


@dataclass(frozen=True)
class ContextSettings:
    """Sizes of one context. `pooling_type` other than None makes it give pooled embeddings and no logits."""

    n_ctx: int
    n_batch: int
    n_seq_max: int
    n_threads: int
    pooling_type: int | None = None


class LlamaModel:
    """Base weights and vocabulary."""

    def __init__(self, path: Path, *, n_gpu_layers: int = 0, use_mmap: bool = True) -> None:
        native.llama_log_set(_log, ctypes.c_void_p(0))
        native.llama_backend_init()
        params = native.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        params.use_mmap = use_mmap
        self._pointer: Any = native.llama_model_load_from_file(str(path).encode(), params)
        if not self._pointer:
            message = f"llama.cpp cannot load {path}; its architecture may be newer than this version, or the file is damaged"
            raise ModelFileError(message)
        self._vocab = native.llama_model_get_vocab(self._pointer)
        self.n_embd = int(native.llama_model_n_embd(self._pointer))
        self.n_vocab = int(native.llama_vocab_n_tokens(self._vocab))
        self.n_ctx_train = int(native.llama_model_n_ctx_train(self._pointer))

    @property
    def pointer(self) -> Any:
        """The native model. Raises EngineError once freed."""
        if not self._pointer:
            message = "the model was freed; start the engine again"
            raise EngineError(message)
        return self._pointer

    @property
    def end_token(self) -> int:
        """The token that ends an answer: end of sequence, else end of turn, else none (-1)."""
        eos = int(native.llama_vocab_eos(self._vocab))
        return eos if eos != _NO_TOKEN else int(native.llama_vocab_eot(self._vocab))

    def is_end(self, token: int) -> bool:
        """Whether generation stops at this token."""
        return bool(native.llama_vocab_is_eog(self._vocab, token))

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = False) -> list[int]:
        """Return token ids. `add_special` adds the model's own start and end tokens; `parse_special` reads `<|...|>` as tokens."""
        raw = text.encode("utf-8", errors="replace")
        capacity = len(raw) + 8
        for _ in range(2):
            buffer = (native.llama_token * capacity)()
            count = native.llama_tokenize(self._vocab, raw, len(raw), buffer, capacity, add_special, parse_special)
            if count >= 0:
                return list(buffer[:count])
            capacity = -count
        message = "llama.cpp could not tokenise a text; it may be longer than 2 GiB"
        raise EngineError(message)

    def get_piece(self, token: int) -> bytes:
        """Return the bytes a token stands for; control tokens give none. A piece may end inside a UTF-8 character."""
        capacity = 64
        for _ in range(2):
            buffer = ctypes.create_string_buffer(capacity)
            count = native.llama_token_to_piece(self._vocab, token, buffer, capacity, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            capacity = -count
        message = f"llama.cpp has no text for token {token}"
        raise EngineError(message)

    def close(self) -> None:
        """Free the weights. Contexts and adapters on it must be freed before."""
        if self._pointer:
            native.llama_model_free(self._pointer)
            self._pointer = None


class LoraAdapter:
    """LoRA weights on a model. Loading and freeing must not overlap a scheduler reserve: keep both on the thread that decodes."""

    def __init__(self, model: LlamaModel, path: Path) -> None:
        self._pointer: Any = native.llama_adapter_lora_init(model.pointer, str(path).encode())
        if not self._pointer:
            message = f"llama.cpp refuses {path}: its tensors do not fit the base model; train or convert it for this base"
            raise AdapterError(message)

    @property
    def pointer(self) -> Any:
        """The native adapter. Raises EngineError once freed."""
        if not self._pointer:
            message = "the adapter was freed; load it again"
            raise EngineError(message)
        return self._pointer

    def close(self) -> None:
        """Free the weights; no context may have them set."""
        if self._pointer:
            native.llama_adapter_lora_free(self._pointer)
            self._pointer = None


class LlamaContext:
    """A context with its batch arrays. The arrays live as long as the context, so a decode never reads freed memory."""

    def __init__(self, model: LlamaModel, settings: ContextSettings) -> None:
        # llama.cpp plans its largest batch as equal sequences and aborts the process where the division leaves a rest
        n_batch = -(-settings.n_batch // settings.n_seq_max) * settings.n_seq_max
        params = native.llama_context_default_params()
        params.n_ctx = max(settings.n_ctx, n_batch)
        params.n_batch = params.n_ubatch = n_batch
        params.n_seq_max = settings.n_seq_max
        params.n_threads = params.n_threads_batch = settings.n_threads
        params.kv_unified = True
        params.swa_full = True  # a shared prefix must stay whole for models with a sliding window
        params.no_perf = True
        if settings.pooling_type is not None:
            params.embeddings = True
            params.pooling_type = settings.pooling_type
        self._pointer: Any = native.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            message = f"llama.cpp could not make a context of {settings.n_ctx} tokens; lower engine.n_ctx or free memory"
            raise EngineError(message)
        self._memory: Any = native.llama_get_memory(self._pointer)
        self._model = model
        self.n_batch = n_batch
        self._lora: LoraAdapter | None = None
        self._n_tokens = 0
        self._build_batch(n_batch, settings.n_seq_max)

    def _build_batch(self, n_batch: int, n_seq_max: int) -> None:
        self._tokens = np.zeros(n_batch, np.int32)
        self._positions = np.zeros(n_batch, np.int32)
        self._n_seq_ids = np.zeros(n_batch, np.int32)
        self._outputs = np.zeros(n_batch, np.int8)
        self._seq_table = np.arange(n_seq_max, dtype=np.int32)
        self._seq_lists: list[IntArray] = []  # lists of several ids, kept until the next batch
        self._seq_pointers = np.zeros(n_batch, np.uint64)
        int_pointer = ctypes.POINTER(ctypes.c_int32)
        self._batch = native.llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(int_pointer),
            embd=None,
            pos=self._positions.ctypes.data_as(int_pointer),
            n_seq_id=self._n_seq_ids.ctypes.data_as(int_pointer),
            seq_id=ctypes.cast(ctypes.c_void_p(self._seq_pointers.ctypes.data), ctypes.POINTER(int_pointer)),
            logits=self._outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def set_lora(self, lora: LoraAdapter | None) -> None:
        """Apply an adapter, or none. Call right before a decode: llama.cpp may reuse a graph by the address of its adapter map."""
        if lora is self._lora:
            return
        if lora is None:
            native.llama_set_adapters_lora(self._pointer, None, 0, None)
        else:
            adapters = (native.llama_adapter_lora_p_ctypes * 1)(lora.pointer)
            scales = (ctypes.c_float * 1)(1.0)
            native.llama_set_adapters_lora(self._pointer, adapters, 1, scales)
        self._lora = lora

    @property
    def n_tokens(self) -> int:
        """Tokens in the batch."""
        return self._n_tokens

    @property
    def room(self) -> int:
        """Tokens that still fit into the batch."""
        return self.n_batch - self._n_tokens

    def begin(self) -> None:
        """Start an empty batch."""
        self._n_tokens = 0
        self._seq_lists.clear()

    def add_run(
        self,
        tokens: Sequence[int] | IntArray,
        *,
        position: int,
        seq_id: int,
        has_output: bool = False,
        shared: Sequence[int] = (),
    ) -> int:
        """Add a sequence's (and `shared` ones') next tokens; returns the last one's place, whose logits `has_output` asks for."""
        start, end = self._n_tokens, self._n_tokens + len(tokens)
        self._check(end)
        self._tokens[start:end] = tokens
        self._positions[start:end] = np.arange(position, position + len(tokens), dtype=np.int32)
        self._n_seq_ids[start:end] = 1 + len(shared)
        self._seq_pointers[start:end] = self._point(seq_id, shared)
        self._outputs[start:end] = 0
        self._outputs[end - 1] = has_output
        self._n_tokens = end
        return end - 1

    def _point(self, seq_id: int, shared: Sequence[int]) -> int:
        """Return the address of a list of sequence ids that lives until the next batch."""
        if not shared:
            return self._seq_table.ctypes.data + self._seq_table.itemsize * seq_id
        self._seq_lists.append(np.array([seq_id, *shared], np.int32))
        return self._seq_lists[-1].ctypes.data

    def decode(self) -> None:
        """Compute the batch. Raises EngineError; the cache then holds what it held before."""
        self._batch.n_tokens = self._n_tokens
        code = native.llama_decode(self._pointer, self._batch)
        if code != 0:
            message = f"llama.cpp could not compute a batch of {self._n_tokens} tokens (code {code}); raise engine.n_ctx"
            raise EngineError(message)

    def get_logits(self, place: int) -> FloatArray:
        """Return the logits of a token of the last batch, shape (n_vocab,): a view that the next decode overwrites."""
        pointer = native.llama_get_logits_ith(self._pointer, place)
        if not pointer:
            message = "llama.cpp gave no logits for a token that asked for them"
            raise EngineError(message)
        return np.ctypeslib.as_array(pointer, (self._model.n_vocab,))

    def copy_sequence(self, source: int, target: int) -> None:
        """Let a sequence share all cached tokens of another; costs no memory."""
        native.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def remove_sequence(self, seq_id: int) -> None:
        """Forget a sequence; tokens it shares stay with the others."""
        native.llama_memory_seq_rm(self._memory, seq_id, -1, -1)

    def encode(self, sequences: Sequence[IntArray], *, fill_to: int = 0) -> FloatArray:
        """Return the pooled embeddings of whole sequences, shape (len(sequences), n_embd), not normalised.

        A batch of fewer than `fill_to` tokens is filled up with a sequence that nobody asked for; the context needs one to spare.
        """
        if self._memory:
            native.llama_memory_clear(self._memory, False)
        self.begin()
        for seq_id, tokens in enumerate(sequences):
            self.add_run(tokens, position=0, seq_id=seq_id)
        if self._n_tokens < fill_to:
            self.add_run(np.zeros(fill_to - self._n_tokens, np.int32), position=0, seq_id=len(sequences))
        self._outputs[: self._n_tokens] = 1  # every token counts towards the pooled embedding
        self.decode()
        result = np.empty((len(sequences), self._model.n_embd), np.float32)
        for seq_id in range(len(sequences)):
            pointer = native.llama_get_embeddings_seq(self._pointer, seq_id)
            if not pointer:
                message = "llama.cpp gave no pooled embedding; the model has no pooling that fits an encoder"
                raise EngineError(message)
            result[seq_id] = np.ctypeslib.as_array(pointer, (self._model.n_embd,))
        return result

    def _check(self, n_tokens: int) -> None:
        if n_tokens > self.n_batch:  # llama.cpp aborts the process on a batch that does not fit
            message = f"a batch of {n_tokens} tokens does not fit the context's {self.n_batch}"
            raise EngineError(message)

    def close(self) -> None:
        """Free the context."""
        if self._pointer:
            native.llama_free(self._pointer)
            self._pointer = None
            self._memory = None
