"""A merged file computes what llama.cpp computes with the adapter beside the base, and the same for a ticket alone or in a batch."""

import numpy as np
import pytest

from bot.engine.gguf_file import read_head
from bot.engine.llama import POOLING_MEAN, ContextSettings, LlamaContext, LlamaModel, LoraAdapter
from bot.engine.merge import count_merged_bytes, write_merged
from bot.engine.protocol import AdapterError
from tests.support.tiny_decoder import make_lora
from tests.support.tiny_encoder import make_tiny_encoder

SEQUENCES = [np.array([1, *(3 + (7 * row + column) % 40 for column in range(4 + row)), 2], np.int32) for row in range(12)]


def embed(path, *, lora=None, at_once=1):
    """Return unit-norm embeddings of SEQUENCES, computed `at_once` at a time."""
    model = LlamaModel(path)
    context = LlamaContext(model, ContextSettings(n_ctx=256, n_batch=256, n_seq_max=16, n_threads=1, pooling_type=POOLING_MEAN))
    adapter = LoraAdapter(model, lora) if lora is not None else None
    context.set_lora(adapter)
    rows = np.concatenate(
        [context.encode(SEQUENCES[start : start + at_once]).copy() for start in range(0, len(SEQUENCES), at_once)]
    )
    context.close()
    if adapter is not None:
        adapter.close()
    model.close()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def merge(base, lora, target):
    write_merged(base, read_head(base), lora=lora, target=target)
    return target


@pytest.mark.parametrize("quantization", ["Q8_0", "F16", "F32"])
def test_a_merged_file_gives_the_embeddings_of_base_and_adapter(tmp_path, quantization):
    base = make_tiny_encoder(tmp_path / "base.gguf", quantization=quantization)
    lora = make_lora(tmp_path / "lora.gguf", base, seed=1)
    merged = embed(merge(base, lora, tmp_path / "merged.gguf"))
    assert (merged * embed(base, lora=lora)).sum(axis=1).min() > 0.999
    assert (merged * embed(base)).sum(axis=1).max() < 0.99


def test_without_an_adapter_the_base_is_what_is_written(tmp_path, encoder_path):
    merged = merge(encoder_path, None, tmp_path / "merged.gguf")
    assert (embed(merged) * embed(encoder_path)).sum(axis=1).min() > 0.999
    assert merged.stat().st_size >= count_merged_bytes(read_head(encoder_path))


def test_a_ticket_alone_and_in_a_batch_get_the_same_embedding(tmp_path, encoder_path):
    merged = merge(encoder_path, make_lora(tmp_path / "lora.gguf", encoder_path, seed=2), tmp_path / "merged.gguf")
    np.testing.assert_allclose(embed(merged, at_once=12), embed(merged), atol=1e-3)


def test_an_adapter_of_another_base_is_refused_by_the_name_of_its_matrix(tmp_path, encoder_path):
    other = make_tiny_encoder(tmp_path / "other.gguf", n_embd=128)
    lora = make_lora(tmp_path / "lora.gguf", other, seed=1)
    with pytest.raises(AdapterError, match=r"blk\.0"):
        merge(encoder_path, lora, tmp_path / "merged.gguf")
