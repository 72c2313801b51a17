"""Packing: many tickets behind one prompt compute what each would alone."""

import numpy as np
import pytest
import torch

from tests.training.decoder.conftest import CHOICES, make_tickets
from training.decoder.calibrate import fit_calibration
from training.decoder.loop import LAST_RATE, compute_log_probability, compute_loss, compute_rate
from training.decoder.pack import build_mask, build_pack, build_packs
from training.decoder.settings import DecoderSettings
from training.decoder.tokens import Completion, Decision, PromptTokens, build_choice
from training.decoder.train import build_learner, choose_rate
from training.encoder.linear import Targets

FP32 = DecoderSettings(precision="fp32", threads=1, mode="faithful")


def read(base_path, n):
    with PromptTokens(base_path, text_tokens=64) as reader:
        tokens = reader.read_choices(CHOICES)
        pairs = [reader.read_prompt(CHOICES.prefix, text, CHOICES.suffix) for text, _ in make_tickets(n, seed=2)]
    completions = [build_choice(own, tokens, row % 3, weight=1.0, is_negative=False) for row, (_, own) in enumerate(pairs)]
    return pairs[0][0], completions


def test_packed_tickets_have_the_logits_they_have_alone(base_path):
    prefix, completions = read(base_path, 2)
    learner = build_learner(base_path, FP32)
    with torch.inference_mode():
        packed = learner.compute_logits(build_pack(prefix, completions))
        alone = torch.cat([learner.compute_logits(build_pack(prefix, [completion])) for completion in completions])
    torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-4)


def test_cutting_a_batch_into_packs_leaves_the_step_the_same(base_path):
    prefix, completions = read(base_path, 2)
    states = []
    for limit in (4096, len(prefix) + 40):
        learner = build_learner(base_path, FP32)
        packs = build_packs(prefix, completions, limit=limit)
        losses = learner.step(packs, rate=1.0, seed=1)
        states.append((len(packs), losses))
    (n_whole, whole), (n_cut, cut) = states
    assert n_whole == 1 < n_cut
    assert whole == pytest.approx(cut, rel=1e-5)


def test_packs_keep_their_limit_and_every_completion():
    completions = [Completion(tuple(range(size)), 0, (1,)) for size in (5, 30, 8, 8, 12, 3)]
    packs = build_packs([1, 2], completions, limit=22)
    assert sorted(len(one.tokens) for pack in packs for one in pack.completions) == [3, 5, 8, 8, 12, 30]
    assert all(pack.tokens.shape[1] <= 22 for pack in packs if len(pack.completions) > 1)


def test_a_ticket_sees_the_prefix_and_itself_alone():
    pack = build_pack([1, 2], [Completion((3, 4), 1, (5,)), Completion((6,), 0, (7,))])
    assert build_mask(pack)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert build_mask(pack, window=2)[0, 0, 3].int().tolist() == [0, 0, 1, 1, 0]
    assert pack.positions.tolist() == [[0, 1, 2, 3, 2]]


def test_the_prompt_is_joined_part_by_part(base_path):
    with PromptTokens(base_path, text_tokens=64) as reader:
        prefix, own = reader.read_prompt("ticket:\n", "printer", "\nlabel:")
        assert reader.read_answer("ticket:\n") == prefix
        assert own == reader.read_answer("printer") + reader.read_answer("\nlabel:")


def test_a_decision_costs_only_what_is_still_possible():
    completion = Completion((1, 2), 1, (3,), (Decision(0, (3, 4), 0),))
    logits = torch.zeros(1, 10)
    logits[0, 9] = 50.0  # no answer begins with it
    assert float(compute_log_probability(logits, completion)) == pytest.approx(np.log(0.5), abs=1e-6)


def test_a_wrong_answer_costs_more_the_surer_it_is():
    settings = DecoderSettings()
    costs = []
    for logit in (-2.0, 0.0, 2.0):
        completion = Completion((1,), 0, (3,), (Decision(0, (3, 4), 0),), is_negative=True)
        logits = torch.zeros(1, 5)
        logits[0, 3] = logit
        costs.append(float(compute_loss(logits, build_pack([9], [completion]), settings=settings)))
    assert costs == sorted(costs)
    assert costs[0] < 0.2
    assert costs[2] > 2.0


def test_the_rate_warms_up_and_falls_to_its_floor():
    rates = [compute_rate(step, 100) for step in range(100)]
    assert rates[0] < rates[5] == max(rates) == 1.0
    assert rates[-1] == pytest.approx(LAST_RATE, abs=0.002)


def test_wider_models_learn_with_smaller_rates():
    assert choose_rate(256, FP32) == pytest.approx(5e-3)
    assert choose_rate(2048, FP32) == pytest.approx(2.2e-4, rel=0.01)
    assert choose_rate(2048, DecoderSettings(learning_rate=1e-3)) == 1e-3


def test_a_label_that_wins_on_empty_tickets_has_its_prior_taken_out():
    chooser = np.random.default_rng(0)
    label = np.arange(60) % 2
    evidence = np.where(label == 1, 2.0, -2.0) + chooser.normal(0, 1, 60)
    logits = np.stack([np.full(60, 6.0), evidence], axis=1)
    raw = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    prior = np.log(np.array([0.9975, 0.0025], np.float32))
    fitted = fit_calibration(raw, prior, Targets(label, np.ones(60), np.zeros(60, bool)))
    assert fitted.prior_weight > 0.7
    nothing = Targets(np.empty(0, int), np.empty(0), np.empty(0, bool))
    assert fit_calibration(np.empty((0, 2), np.float32), prior, nothing).prior_weight == 0.0
