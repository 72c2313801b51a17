"""The study's plan, its lines and its table; one cell measured on a tiny base."""

import json

import numpy as np
import pytest

from bot.errors import UserError
from bot.settings import Settings
from bot.types import Label, LabelSet
from db.types import MaskedText
from tests.support.tiny_encoder import make_tiny_encoder
from training.encoder.served import ServedEncoder
from training.evaluate import Row, Work
from training.study import FROZEN, NO_EXPERT, RECIPE, VARIANTS, Cell, Study, compute_figures, main, plan, render_table

WORDS = ("printer paper toner", "invoice payment refund", "password login account")


def make_rows(n, *, seed):
    rng = np.random.default_rng(seed)
    return [Row(MaskedText(" ".join([*rng.choice(WORDS[at % 3].split(), 2), "please"])), at % 3) for at in range(n)]


def make_line(variant, seed, accuracy):
    return {"set": "s", "variant": variant, "n_train": 100, "seed": seed, "accuracy": accuracy, "ece": 0.05}


def test_plan_has_every_cell_once_without_those_that_are_measured():
    done = [Cell(RECIPE, 100, 0)]
    cells = plan([300, 100], 2, VARIANTS, done=done)
    assert len(cells) == len(set(cells)) == 2 * 2 * len(VARIANTS) - 1
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert done[0] not in cells


def test_unknown_variant_is_refused_by_name():
    with pytest.raises(UserError, match="'recip'"):
        plan([100], 1, ["recip"], done=[])


def test_figures_of_certain_right_answers_are_perfect():
    answers = np.log(np.array([[1.0, 1e-9], [1e-9, 1.0]]))
    assert compute_figures(answers, np.array([0, 1])) == {"accuracy": 1.0, "macro_f1": 1.0, "ece": 0.0, "log_loss": 0.0}


def test_table_gives_mean_and_spread_over_seeds_and_names_what_is_missing(tmp_path, capsys):
    lines = [
        make_line(RECIPE, 0, 0.7),
        make_line(RECIPE, 1, 0.8),
        make_line(FROZEN, 0, 0.6),
        make_line(FROZEN, 0, 0.6) | {"n_train": 300},
    ]
    assert render_table(lines).splitlines()[2:] == [
        f"| s | {RECIPE} | .750 ± .071 (ECE .050 ± .000) | - |",
        f"| s | {FROZEN} | .600 (ECE .050, 1 of 2 seeds) | .600 (ECE .050, 1 of 2 seeds) |",
    ]
    out = tmp_path / "study.jsonl"
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["--table", "--out", str(out)]) == 0
    assert capsys.readouterr().out == render_table(lines) + "\n"


def test_recipe_is_measured_with_and_without_its_expert_in_one_training(tmp_path):
    base = make_tiny_encoder(tmp_path / "tiny.gguf")
    labels = LabelSet("test", "v", tuple(Label(words.split()[0]) for words in WORDS))
    settings = Settings(home=tmp_path, engine={"text_tokens": 64})
    work = Work(make_rows(60, seed=0), make_rows(30, seed=1), labels, base, tmp_path, settings, lambda progress: None)
    with ServedEncoder(base, text_tokens=64, n_threads=1) as served:
        study = Study(work, served, threads=1)
        found = study.measure(Cell(RECIPE, 30, 0))
        frozen = study.measure(Cell(FROZEN, 30, 0))
        with pytest.raises(UserError, match="60 examples"):
            study.measure(Cell(RECIPE, 61, 0))
    assert set(found) == {RECIPE, NO_EXPERT}
    assert set(frozen) == {FROZEN}
    assert found[NO_EXPERT]["lexical_weight"] == 0.0 < found[RECIPE]["lexical_weight"]
    assert all(figures["accuracy"] > 0.5 for figures in (*found.values(), *frozen.values()))
    assert not list(tmp_path.glob(".study-*"))
