"""Layers in NF4 go on learning whatever was asked of them in between."""

import torch
from torch import nn

from training.qlora import freeze, quantise_linears


def test_gradients_are_the_same_after_a_look_without_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 64, bias=False))
    freeze(model)
    quantise_linears(model, names=["0"])
    model.eval()
    x = torch.randn(5, 128, requires_grad=True)

    def compute_gradient():
        x.grad = None
        model(x).square().sum().backward()
        return x.grad.clone()

    before = compute_gradient()
    with torch.no_grad():
        model(torch.randn(5, 128))
    after = compute_gradient()
    assert before.abs().max() > 0
    torch.testing.assert_close(after, before, rtol=0, atol=0)
