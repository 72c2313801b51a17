"""Steps and batches of the encoder's training: fused LoRA layers compute what PEFT's do, and contrastive batches hold pairs."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from training.encoder.fused import fuse_lora
from training.encoder.loop import Stage, TrainData, compute_contrast, order_pairs

PAIRED = Stage("x", tuple(range(10)), 1, contrast_epochs=2)


class Small(nn.Module):
    """Two linear layers; the first gets no gradient for its input."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 4, bias=False)

    def forward(self, x):
        return self.down(torch.tanh(self.up(x)))


def build_lora_model():
    torch.manual_seed(3)
    model = get_peft_model(Small(), LoraConfig(r=2, lora_alpha=6.0, target_modules=["up", "down"], init_lora_weights=False))
    return model, {name: value for name, value in model.named_parameters() if value.requires_grad}


def make_data(labels, *, negative=()):
    n = len(labels)
    is_negative = torch.zeros(n, dtype=torch.bool)
    is_negative[list(negative)] = True
    return TrainData([[1]] * n, torch.tensor(labels), torch.ones(n), is_negative)


def test_fused_layers_give_the_answers_and_gradients_of_peft():
    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    (plain, wanted), (fused, found) = build_lora_model(), build_lora_model()
    assert fuse_lora(fused) == 2
    expected, answer = plain(x), fused(x)
    torch.testing.assert_close(answer, expected)
    expected.square().sum().backward()
    answer.square().sum().backward()
    assert wanted.keys() == found.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.grad, wanted[name].grad)


def test_fused_layers_leave_the_frozen_weights_alone():
    model, _ = build_lora_model()
    before = {name: value.clone() for name, value in model.named_parameters()}
    fuse_lora(model)
    model(torch.ones(1, 6)).sum().backward()
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, before[name], rtol=0.0, atol=0.0)


def test_contrastive_batches_hold_every_row_once_per_pass_next_to_one_of_its_label():
    data = make_data([0, 1] * 5)
    batches = order_pairs(PAIRED, data, batch_size=4, seed=0)
    assert len(batches) == 2 * 5
    assert {row for batch in batches[:5] for row in batch} == set(range(10))
    assert all(len(batch) <= 4 for batch in batches)
    assert batches == order_pairs(PAIRED, data, batch_size=4, seed=0) != order_pairs(PAIRED, data, batch_size=4, seed=1)


def test_contrastive_batches_leave_out_what_a_ticket_is_not():
    batches = order_pairs(PAIRED, make_data([0, 1] * 5, negative=[3]), batch_size=4, seed=0)
    assert 3 not in {row for batch in batches for row in batch}


def test_labels_with_one_example_each_give_no_contrastive_batches():
    assert order_pairs(PAIRED, make_data(list(range(10))), batch_size=4, seed=0) == []


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 1]])
def test_contrastive_loss_falls_where_examples_of_one_label_are_near(labels):
    apart, near = torch.eye(3), nn.functional.normalize(torch.tensor([[1.0, 0, 0], [1.0, 0.1, 0], [0, 0, 1.0]]))
    label, is_negative = torch.tensor(labels), torch.zeros(3, dtype=torch.bool)
    losses = [float(compute_contrast(rows, label, is_negative)) for rows in (apart, near)]
    if len(set(labels)) == len(labels):
        assert losses == [0.0, 0.0]
    else:
        assert losses[1] < losses[0]
        assert np.isfinite(losses).all()
