"""The lease a run works under: taken once, given back, and taken for lost as soon as it may be another's."""

import pytest

from db.errors import DatabaseDownError
from db.queries import leases
from training import lease as lease_module
from training.lease import LeaseKeeper, LeaseLostError, LeaseTakenError

NAME = "training"


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


def test_a_second_process_is_told_who_holds_the_lease(make_site, monkeypatch):
    site = make_site()
    with LeaseKeeper(site.db_engine, NAME, seconds=60):
        monkeypatch.setattr(lease_module, "build_holder", lambda *_: "other:2")
        with pytest.raises(LeaseTakenError, match="is training at the moment"), LeaseKeeper(site.db_engine, NAME, seconds=60):
            pass
    assert site.read(lambda session: leases.get_holder(session, NAME)) is None


def test_a_lease_that_was_not_renewed_in_its_time_is_taken_for_lost(make_site, monkeypatch):
    site, clock = make_site(), Clock()
    monkeypatch.setattr(lease_module, "time", clock)
    with LeaseKeeper(site.db_engine, NAME, seconds=60) as keeper:
        clock.now += 59.0
        keeper.check()
        clock.now += 1.0
        with pytest.raises(LeaseLostError, match="ran out"):
            keeper.check()


def test_a_lease_outlives_a_database_that_is_away_for_a_moment_and_is_good_again_once_renewed(make_site, monkeypatch):
    site, clock = make_site(), Clock()
    monkeypatch.setattr(lease_module, "time", clock)
    asked = []

    class End:
        """Lets the renewing thread look three times, 20 s apart."""

        def wait(self, seconds):
            asked.append(seconds)
            clock.now += seconds
            return len(asked) > 3

        def set(self):
            pass

    renew, calls = leases.renew, []

    def fail_twice(session, name, **values):
        calls.append(name)
        if len(calls) < 3:
            raise DatabaseDownError("nobody answers")
        return renew(session, name, **values)

    monkeypatch.setattr(leases, "renew", fail_twice)
    keeper = LeaseKeeper(site.db_engine, NAME, seconds=60)
    keeper._end = End()
    with keeper:
        keeper._thread.join()
        assert len(calls) == 3
        clock.now = 100.0 + 60.0 + 59.0
        keeper.check()
