"""Files that cannot serve are refused in one sentence, before llama.cpp sees them."""

import asyncio

import gguf
import numpy as np
import pytest

from bot.engine.factory import build_engine, choose_kind
from bot.engine.gguf_file import read_head
from bot.engine.protocol import EngineError, ModelFileError
from bot.engine.settings import EngineSettings
from db.types import ModelKind
from tests.support.engine_cases import ask
from tests.support.tiny_decoder import make_lora, make_tiny_decoder


def refuse(path, *, match):
    with pytest.raises(ModelFileError, match=match) as caught:
        build_engine(path, settings=EngineSettings())
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    refuse(tmp_path / "none.gguf", match="does not exist")


def test_a_folder_is_refused(tmp_path):
    refuse(tmp_path, match="does not exist")


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 not a model at all"])
def test_a_file_that_is_not_gguf_is_refused(tmp_path, content):
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    refuse(path, match="not a GGUF")


def test_an_unknown_version_is_refused(tmp_path, decoder_path):
    content = bytearray(decoder_path.read_bytes())
    content[4:8] = (99).to_bytes(4, "little")
    path = tmp_path / "future.gguf"
    path.write_bytes(content)
    refuse(path, match="version 99")


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.999])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, decoder_path, share):
    content = decoder_path.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(content[: int(len(content) * share)])
    refuse(path, match="cut short|not a GGUF")


def test_a_last_missing_byte_of_weights_is_noticed(tmp_path, decoder_path):
    path = tmp_path / "cut.gguf"
    path.write_bytes(decoder_path.read_bytes().rstrip(b"\x00")[:-1])
    refuse(path, match="cut short")


@pytest.mark.parametrize("at", [8, 16, 24])
def test_counts_and_lengths_beyond_the_file_are_refused(tmp_path, decoder_path, at):
    content = bytearray(decoder_path.read_bytes())
    content[at : at + 8] = (2**62).to_bytes(8, "little")
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    refuse(path, match="cut short or damaged")


def test_a_vocabulary_without_weights_is_refused(tmp_path):
    path = tmp_path / "vocab.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refuse(path, match="no weights")


def test_an_adapter_in_place_of_a_model_is_refused(tmp_path, decoder_path):
    refuse(make_lora(tmp_path / "lora.gguf", decoder_path), match="LoRA adapter")


async def test_an_architecture_that_llama_cpp_does_not_know_fails_at_the_start(tmp_path, decoder_path):
    path = tmp_path / "strange.gguf"
    path.write_bytes(decoder_path.read_bytes().replace(b"llama", b"lhama"))
    engine = build_engine(path, settings=EngineSettings())
    with pytest.raises(ModelFileError, match="cannot load"):
        await engine.start()
    with pytest.raises(EngineError, match="not running"):
        await engine.score(ask(1))


def test_the_kind_follows_architecture_and_pooling(encoder_path, decoder_path):
    assert choose_kind(read_head(encoder_path)) == ModelKind.ENCODER
    assert choose_kind(read_head(decoder_path)) == ModelKind.DECODER


def test_the_head_of_a_file_names_shapes_innermost_first(decoder_path):
    head = read_head(decoder_path)
    assert head.architecture == "llama"
    assert head.tensors["blk.0.ffn_up.weight"].shape == (64, 128)
    assert head.tensors["blk.0.ffn_up.weight"].n_bytes == 64 * 128 * 2
    assert head.array_lengths["tokenizer.ggml.tokens"] == 512


@pytest.mark.parametrize("quantization", ["F32", "Q8_0"])
async def test_other_quantizations_load_and_answer(tmp_path, build, quantization):
    engine = await build(make_tiny_decoder(tmp_path / "model.gguf", quantization=quantization))
    scores = await engine.score(ask(1))
    assert scores.probabilities.sum() == pytest.approx(1.0, abs=1e-5)


async def test_a_causal_embedding_model_serves_as_an_encoder(tmp_path, build):
    engine = await build(make_tiny_decoder(tmp_path / "model.gguf", pooling_type=gguf.PoolingType.LAST))
    assert engine.kind == ModelKind.ENCODER
    together = await asyncio.gather(*(engine.score(ask(number)) for number in range(12)))
    alone = await engine.score(ask(11))
    np.testing.assert_allclose(together[11].embedding, alone.embedding, atol=0.01)
    assert not np.allclose(together[10].embedding, alone.embedding, atol=0.1)


def test_a_reranker_is_refused(tmp_path):
    refuse(make_tiny_decoder(tmp_path / "model.gguf", pooling_type=gguf.PoolingType.RANK), match="reranker")
