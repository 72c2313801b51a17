"""The GPU bench on a tiny shape: the same code on a CPU, and what it says where there is no GPU."""

from dataclasses import replace

import pytest
import torch

from benches import train_cuda
from benches.train_cuda import CudaSize, Shape, bench_shape, build_model, build_packs_at_random
from training.blocks import BlockLinear

pytestmark = pytest.mark.train
TINY = Shape("tiny", n_layer=2, n_embd=64, n_head=4, n_head_kv=2, n_ff=128, n_vocab=64)
WIDE = replace(TINY, n_embd=256, n_ff=256)  # blocks of K kinds hold 256 values
SIZE = CudaSize(packs=1, pack_tokens=64, prefix_tokens=16, answer_tokens=4, ticket_tokens=12, warm_up=0, steps=1)


def test_packs_are_filled_and_hold_one_list_each():
    (pack,) = build_packs_at_random(TINY, SIZE)
    assert pack.tokens.numel() == 16 + 3 * (12 + 4 - 1)
    assert int((pack.owner == -1).sum()) == 16


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_all_layers_are_in_four_bits_and_only_lora_learns():
    model = build_model(TINY, "cpu", r=4)
    kinds = {type(module).__name__ for name, module in model.named_modules() if name.endswith("base_layer")}
    assert kinds == {"Linear4bit"}
    assert all("lora_" in name for name, value in model.named_parameters() if value.requires_grad)
    assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("has_checkpointing", [False, True])
def test_the_loop_runs_and_tells_its_rate(has_checkpointing):
    figures = bench_shape(TINY, SIZE, device="cpu", has_checkpointing=has_checkpointing)
    assert figures["tokens_per_s"] > 0.0
    assert figures["peak_gib"] == 0.0


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_the_loop_runs_on_blocks_too():
    model = build_model(WIDE, "cpu", holding="blocks", r=4)
    blocks = [module for module in model.modules() if isinstance(module, BlockLinear)]
    assert len(blocks) == 14
    assert 0.01 < float(blocks[0].read().std()) < 0.1  # weights as they are in a model
    assert bench_shape(WIDE, SIZE, device="cpu", has_checkpointing=True, holding="blocks")["tokens_per_s"] > 0.0


def test_without_a_gpu_it_says_so_and_writes_nothing(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(train_cuda, "write_json", lambda *_: pytest.fail("nothing was measured"))
    monkeypatch.setattr("sys.argv", ["benches.train_cuda"])
    train_cuda.main()
    assert "skipped: torch sees no CUDA device" in capsys.readouterr().out
