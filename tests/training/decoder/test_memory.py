"""What a pass keeps is measured, and a learner that would keep more than is free recomputes activations and reads fewer tokens at once."""

import pytest

from tests.support.tiny_decoder import make_tiny_decoder
from tests.training.decoder.shapes import make_shaped_decoder
from training.decoder import memory
from training.decoder.memory import LEAST_TOKENS, fit_memory, measure_kept
from training.decoder.pack import build_packs
from training.decoder.settings import DecoderSettings
from training.decoder.tokens import Completion
from training.decoder.train import build_learner

pytestmark = pytest.mark.train
SETTINGS = DecoderSettings(mode="full", precision="fp32", threads=1, r=4)
COMPLETIONS = [Completion(tokens=tuple(range(5, 45)), start=38, answer=(6, 7)) for _ in range(4)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_tiny_decoder(tmp_path_factory.mktemp("base") / "base.gguf", n_layer=6)


@pytest.fixture
def set_room(monkeypatch):
    return lambda room: monkeypatch.setattr(memory, "find_room", lambda _: room)


def compute_gradients(learner):
    learner.model.zero_grad()
    for pack in build_packs([1, 2, 3], COMPLETIONS, limit=learner.pack_tokens):
        learner.compute_logits(pack).logsumexp(dim=-1).sum().backward()
    return {name: value.grad.clone() for name, value in learner.model.named_parameters() if value.requires_grad}


def find_difference(expected, found):
    """Return the greatest difference as a share of a matrix's greatest value."""
    changed = [name for name, value in expected.items() if value.abs().max() > 0]
    assert len(changed) == len(expected) / 2  # B starts at zero, so that A has no gradient yet
    return max(float((expected[name] - found[name]).abs().max() / expected[name].abs().max()) for name in changed)


def test_what_is_kept_grows_with_the_tokens_and_the_models_depth(base, tmp_path):
    flat = make_tiny_decoder(tmp_path / "flat.gguf", n_layer=3)
    linear, _ = measure_kept(build_learner(base, SETTINGS))
    linear_flat, _ = measure_kept(build_learner(flat, SETTINGS))
    assert linear > 6 * 4 * (64 + 128)  # six layers keep at least their inputs and what the feed-forward multiplies
    assert 1.7 * linear_flat < linear < 2.1 * linear_flat


def test_eager_attention_keeps_more_with_the_square_of_the_tokens(tmp_path):
    _, square = measure_kept(build_learner(make_shaped_decoder(tmp_path / "base.gguf", "gemma2"), SETTINGS))
    assert square > 0.0


def test_a_learner_with_room_is_left_alone(base, set_room):
    set_room(1e12)
    learner = build_learner(base, SETTINGS)
    assert learner.pack_tokens == SETTINGS.pack_tokens
    assert not learner.model.training


def test_a_learner_with_less_room_recomputes_and_learns_the_same(base, set_room):
    set_room(None)
    whole = build_learner(base, SETTINGS)
    linear, square = measure_kept(whole)
    set_room(0.9 * (linear * SETTINGS.pack_tokens + square * SETTINGS.pack_tokens**2))
    fitted = build_learner(base, SETTINGS)
    assert fitted.pack_tokens == SETTINGS.pack_tokens
    assert fitted.model.training
    expected, found = compute_gradients(whole), compute_gradients(fitted)
    assert find_difference(expected, found) < 1e-4


def test_a_learner_with_hardly_any_room_reads_fewer_tokens_at_once_and_learns_the_same(base, set_room):
    set_room(None)
    expected = compute_gradients(build_learner(base, SETTINGS))
    set_room(1.0)
    fitted = build_learner(base, SETTINGS)
    assert fitted.pack_tokens == LEAST_TOKENS
    found = compute_gradients(fitted)
    assert find_difference(expected, found) < 1e-4


def test_a_learner_in_between_reads_as_many_as_fit(base, set_room):
    set_room(None)
    learner = build_learner(base, SETTINGS)
    linear, square = measure_kept(learner)
    set_room(0.2 * (linear * SETTINGS.pack_tokens + square * SETTINGS.pack_tokens**2))
    fit_memory(learner)
    assert LEAST_TOKENS < learner.pack_tokens < SETTINGS.pack_tokens


def test_the_machine_says_how_much_is_free():
    room = memory.find_room("cpu")
    assert room is None or 1e6 < room < 1e14


def test_a_containers_limit_counts_where_it_is_lower(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory.sys, "platform", "linux")
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert memory.find_room("cpu") == pytest.approx(0.6 * 600_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.find_room("cpu") > 1e6
