"""Early stopping: the weights of the best pass are kept, more passes that bring nothing are not made, and a kill changes none of it."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.decoder.conftest import make_examples
from training.decoder import stages
from training.decoder.stopping import EarlyStop
from training.encoder.checkpoint import FILE
from training.encoder.types import CancelledError


class Learner:
    """Weights that name the pass they come from."""

    def __init__(self):
        self.n_passes = 0

    def weights(self):
        return {"a": torch.tensor([float(self.n_passes)])}

    def restore(self, state):
        self.n_passes = int(state["a"])


def go_through(losses, *, patience, stop=None):
    rest, learner = iter(losses), Learner()
    stop = stop or EarlyStop(lambda: next(rest), patience=patience)
    for _ in losses:
        learner.n_passes += 1
        if not stop.look(learner):
            break
    stop.finish(learner)
    return stop, learner


@pytest.mark.parametrize(
    ("losses", "patience", "n_done", "n_kept"),
    [
        ([3.0, 2.0, 1.0], 2, 3, 3),
        ([3.0, 1.0, 2.0, 2.0, 0.5], 2, 4, 2),
        ([1.0, 2.0, 0.5, 0.6, 0.7], 2, 5, 3),
        ([1.0, 1.0, 1.0], 2, 3, 1),
    ],
)
def test_the_best_pass_is_kept_and_the_end_comes_after_so_many_in_vain(losses, patience, n_done, n_kept):
    stop, learner = go_through(losses, patience=patience)
    figures = stop.describe(9)
    assert (figures["n_done"], figures["n_kept"], figures["n_planned"]) == (n_done, n_kept, 9)
    assert learner.n_passes == n_kept


def test_without_patience_or_held_out_examples_all_passes_are_made_and_nothing_is_told():
    for stop in (EarlyStop(lambda: 1.0, patience=0), EarlyStop(None, patience=2)):
        done, learner = go_through([1.0] * 5, patience=2, stop=stop)
        assert learner.n_passes == 5
        assert (done.describe(5), done.state()) == ({}, {})


def test_what_a_checkpoint_holds_decides_as_what_was_not_killed():
    first, _ = go_through([3.0, 1.0, 2.0], patience=2)
    resumed = EarlyStop(lambda: 2.0, patience=2)
    resumed.restore(first.state())
    learner = Learner()
    learner.n_passes = 4
    assert not resumed.look(learner)
    assert resumed.is_over
    resumed.finish(learner)
    assert learner.n_passes == 2


def test_a_real_training_ends_early_with_the_weights_of_its_best_pass(train, tmp_path, monkeypatch):
    losses, seen = iter([1.0, 0.5, 0.6, 0.7, 0.1]), []

    def build(learner, *_, **__):
        def measure():
            seen.append(learner.weights())
            return next(losses)

        return measure

    monkeypatch.setattr(stages, "build_measure", build)
    figures = {}
    train(make_examples(10), directory=tmp_path / "run", epochs=6, on_figures=figures.__setitem__)
    assert (figures["passes"]["n_done"], figures["passes"]["n_kept"]) == (4, 2)
    kept = load_file(tmp_path / "run" / FILE)
    for name, value in seen[1].items():
        torch.testing.assert_close(kept[name], value, rtol=0, atol=0)
    assert any(not torch.equal(kept[name], value) for name, value in seen[3].items())


def test_held_out_losses_of_a_real_training_fall_and_are_recorded(train, tmp_path):
    figures = {}
    train(make_examples(20), directory=tmp_path / "run", epochs=3, on_figures=figures.__setitem__)
    losses = figures["passes"]["held_out_losses"]
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_a_run_killed_between_its_decision_to_stop_and_its_end_does_not_learn_on(train, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "build_measure", lambda *_, **__: iter([0.5, 0.6, 0.7, 0.1]).__next__)
    seen = []

    def is_at_the_end_of_pass_3():
        return len(seen) > 0 and seen[-1].phase == "training" and seen[-1].step == seen[-1].total_steps // 2

    values = {"directory": tmp_path / "run", "epochs": 6, "checkpoint_seconds": 0}
    with pytest.raises(CancelledError):
        train(make_examples(10), on_progress=seen.append, should_stop=is_at_the_end_of_pass_3, **values)
    again = []
    train(make_examples(10), on_progress=again.append, **values)
    assert not [progress for progress in again if progress.phase == "training"]
