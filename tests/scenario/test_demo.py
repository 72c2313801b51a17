"""The whole loop as `make demo` runs it, smaller: every arrow real, only the people simulated."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenario.conftest import make_settings

KEYS = {
    "accuracy_before",
    "accuracy_after",
    "accuracy_tfidf",
    "accuracy_frozen",
    "gain_over_tfidf_ci95",
    "ece_before",
    "ece_after",
    "requests_during_swap",
    "failed_during_swap",
    "wrong_adapter_during_swap",
    "rollback_ms",
    "masking",
    "seconds",
}


@pytest.mark.train
@pytest.mark.timeout(900)
def test_the_loop_turns_once_and_nothing_is_lost_on_the_way(tmp_path: Path, model_home: Path):
    home = make_settings(tmp_path / "home", model_home).home
    clean = {name: value for name, value in os.environ.items() if not name.startswith("UNDERSTUDY_")}
    command = [sys.executable, "-m", "bot", "demo", "--tickets", "320", "--unseen", "300", "--json", str(tmp_path / "out.json")]
    done = subprocess.run(command, env={**clean, "UNDERSTUDY_HOME": str(home)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert set(report) >= KEYS
    assert report["gain_over_before_ci95"][0] > 0
    assert report["accuracy_after"] > report["accuracy_majority"]
    assert report["requests_during_swap"] > 0
    assert (report["failed_during_swap"], report["wrong_adapter_during_swap"]) == (0, 0)
    assert set(report["answered_by"]) == {"base", report["adapter_digest"][:12]}
    assert report["masking"]["found_in_database"] == 0
    assert {path.name for path in (home / "demo").iterdir()} >= {"report.json", "report.html", "accuracy.png", "labels.png"}
    assert "accuracy" in (home / "demo" / "report.html").read_text()
    assert (home / "demo" / "runs" / "1" / "notes.md").exists()
