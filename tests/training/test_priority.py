"""What a training process does to step back, seen from a process of its own: its niceness, its scheduling, its threads."""

import json
import os
import subprocess
import sys

import pytest
from threadpoolctl import threadpool_limits

from bot.settings import Settings
from bot.training_settings import TrainingSettings
from training.priority import lower_priority, step_back

PROGRAM = """
import json, os, sys, threading
import numpy, scipy.linalg
threading.Thread(target=threading.Event().wait, daemon=True).start()  # as numpy does on machines of several cores
from threadpoolctl import threadpool_info
from bot.settings import Settings
from bot.training_settings import TrainingSettings
from training.priority import lower_priority
settings = Settings.model_construct(training=TrainingSettings(nice=int(sys.argv[1]), threads=1))
lower_priority(settings)
blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
tasks = [int(name) for name in os.listdir("/proc/self/task")] if sys.platform == "linux" else []
nices = [os.getpriority(os.PRIO_PROCESS, task) for task in tasks]
policies = [os.sched_getscheduler(task) for task in tasks]
print(json.dumps({"nices": nices, "policies": policies, "blas": blas, "omp": os.environ["OMP_NUM_THREADS"]}))
"""


def look(nice):
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(nice)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies are Linux's own")
@pytest.mark.parametrize(("nice", "policy"), [(0, ""), (10, "SCHED_BATCH"), (19, "SCHED_IDLE")])
def test_every_thread_of_a_run_steps_back_as_far_as_its_niceness_says(nice, policy):
    before = os.nice(0)
    seen = look(nice)
    assert len(seen["nices"]) > 1
    assert set(seen["nices"]) == {max(before, nice)}
    assert set(seen["policies"]) == {getattr(os, policy) if policy else os.sched_getscheduler(0)}


def test_the_threads_of_libraries_that_are_loaded_already_are_bounded_too():
    seen = look(0)
    assert seen["blas"]
    assert set(seen["blas"]) == {1}
    assert seen["omp"] == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies are Linux's own")
def test_a_machine_that_forbids_policies_is_trained_on_all_the_same(monkeypatch, caplog):
    def forbid(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    monkeypatch.setattr(os, "sched_setscheduler", forbid)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1")
    with caplog.at_level("INFO"), threadpool_limits():
        lower_priority(Settings.model_construct(training=TrainingSettings(nice=10, threads=1)))
    assert "the scheduling policy stays as it is: Operation not permitted" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling policies are Linux's own")
def test_a_process_is_put_back_from_outside_and_so_is_what_it_starts():
    code = "import os; input(); print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    step_back([child.pid], 19)
    said, _ = child.communicate("now\n")
    assert said.split() == [str(os.SCHED_IDLE), "19"]
    step_back([child.pid], 19)  # it has ended by now, which is no fault
