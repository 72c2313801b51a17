"""Memory of the dataset builder: a process of its own builds 100,000 examples; what it holds grows by bytes per example, not by texts."""

import json
import subprocess
import sys

MAX_BYTES_PER_EXAMPLE = 1_000  # a million has to fit into 1 GiB, and 80 MB are there before the first


def test_a_hundred_thousand_examples_take_less_than_a_kilobyte_each():
    command = [sys.executable, "-m", "tests.support.many_examples", "100000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500)
    figures = json.loads(done.stdout)
    assert figures["n"] == 100_000
    assert (figures["peak_bytes"] - figures["before_bytes"]) / figures["n"] < MAX_BYTES_PER_EXAMPLE
    assert figures["n_train"] + figures["n_validation"] + figures["n_test"] + sum(figures["left_out"].values()) == 100_000
    assert figures["left_out"]["duplicate"] > 1_000
    assert figures["n_contradictions"] > 500
    assert figures["n_disagreements"] > 500
