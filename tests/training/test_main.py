"""The commands of the training process as the bot and people call them."""

import json

import pytest

from bot.types import DryRun
from training.__main__ import main


def test_a_dry_run_prints_what_the_bot_reads_back(make_site, capsys):
    site = make_site()
    site.add_tickets(100)
    assert main(["dry-run", "--task", "classification", "--json"]) == 0
    answer = DryRun(**json.loads(capsys.readouterr().out))
    assert answer.is_enough
    assert answer.n_train > answer.n_test >= 20
    assert sum(answer.per_label.values()) == answer.n_train + answer.n_validation + answer.n_test


def test_a_dry_run_without_examples_is_an_answer(home, capsys):
    assert main(["dry-run", "--task", "summary"]) == 0
    assert capsys.readouterr().out == "nothing to train on: needs 50 more examples, have 0\n"


def test_a_dry_run_accounts_for_every_example_and_names_labels_and_parts(make_site, capsys):
    site = make_site()
    site.add_tickets(100, relabel=lambda place, label: "gone" if place < 3 else label)
    site.add_tickets(10, start=50)
    assert main(["dry-run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["n_seen"] == 110
    used = answer["n_train"] + answer["n_negative"] + answer["n_validation"] + answer["n_test"]
    assert used + sum(answer["left_out"].values()) == 110
    assert answer["unknown_labels"] == {"gone": 3}
    assert {label: sum(parts.values()) for label, parts in answer["balance"].items()} == answer["per_label"]
    assert main(["dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "left out, duplicate: 10" in shown
    assert "not in the label set, 'gone': 3" in shown
    assert "A run also asks about labels" in shown


def test_a_dry_run_leaves_out_suspects_where_a_run_would(make_site, monkeypatch, capsys):
    site = make_site()
    site.add_tickets(150)
    monkeypatch.setenv("UNDERSTUDY_TRAINING_NOISE_ACTION", "leave_out")
    monkeypatch.setenv("UNDERSTUDY_TRAINING_NOISE_MARGIN", "0.05")
    assert main(["dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "left out, label that the other examples speak against: to review" in shown
    assert "A run also asks about labels" not in shown


def test_a_dry_run_changes_nothing(make_site):
    site = make_site()
    site.add_tickets(100)
    main(["dry-run"])
    from db.queries.examples import iterate_examples
    from db.types import TaskKind

    assert all(row.split is None for row in site.read(lambda s: list(iterate_examples(s, TaskKind.CLASSIFICATION))))


def test_an_unknown_run_is_one_sentence_and_status_1(home, capsys):
    assert main(["run", "77"]) == 1
    assert capsys.readouterr().err == "there is no training run 77\n"


def test_a_misspelled_training_setting_is_refused(home, capsys, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_TRAINING_MIN_EXAMPELS", "3")
    assert main(["dry-run"]) == 1
    assert "did you mean UNDERSTUDY_TRAINING_MIN_EXAMPLES?" in capsys.readouterr().err


def test_settings_of_plugins_are_let_through(home, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_SLACK_BOT_TOKEN", "x")
    assert main(["dry-run"]) == 0


def test_a_fault_of_ours_is_told_without_its_message(home, capsys, monkeypatch):
    def broken(*_, **__):
        raise ValueError("my dog is called Bello")

    monkeypatch.setattr("training.dry_run.build_dataset", broken)
    assert main(["dry-run"]) == 1
    told = capsys.readouterr().err
    assert "Bello" not in told
    assert "in broken" in told


@pytest.mark.parametrize("command", [["run"], ["notes"], ["nonsense"]])
def test_wrong_usage_ends_with_the_usage(command, capsys):
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 2
    assert "usage: python -m training" in capsys.readouterr().err


def test_a_study_says_that_it_leaves_out_the_sweep(home, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("UNDERSTUDY_TRAINING_SWEEP_MINUTES", "5")
    files = [str(tmp_path / name) for name in ("labels.yaml", "train.jsonl", "test.jsonl", "out.json")]
    assert main(["evaluate", "--labels", files[0], "--train", files[1], "--test", files[2], "--json", files[3]]) == 1
    assert "training.sweep_minutes is left out here" in capsys.readouterr().err
