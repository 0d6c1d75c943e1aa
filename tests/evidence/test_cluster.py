from __future__ import annotations

import json
import sys

import pytest

from tendsto.evidence import Budget, Claim, Store, check
from toys import crashes, sums

distributed = pytest.importorskip("distributed")
SUMS = [value for value in vars(sums).values() if isinstance(value, Claim)]
OCCASION = ("seconds", "hardware", "finished")


@pytest.fixture(scope="module")
def address():
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
    ):
        yield cluster.scheduler_address


def test_a_cluster_gives_the_numbers_of_a_local_process(address, tmp_path):
    there, here = Store(tmp_path / "there"), Store(tmp_path / "here")
    verdicts = check(SUMS, Budget(), cluster=address, store=there)
    assert [verdict.claim for verdict in verdicts] == [claim.name for claim in SUMS]
    check(SUMS, Budget(), workers=2, store=here)
    for one, other in zip(there.verdicts(), here.verdicts(), strict=True):
        plain, expected = json.loads(one.to_json()), json.loads(other.to_json())
        for name in OCCASION:
            del plain[name], expected[name]
        assert plain == expected
    for path in here.folder.glob("figures/*/*"):
        assert (there.folder / path.relative_to(here.folder)).read_bytes() == path.read_bytes()


def test_a_dead_worker_costs_its_claim_alone(address):
    verdicts = check([crashes.is_killed, sums.twice_two_is_four], Budget(), cluster=address)
    assert [verdict.verdict for verdict in verdicts] == ["not run", "holds"]
    assert verdicts[0].errored
    assert verdicts[0].reason.startswith("error: the worker failed: KilledWorker")


@pytest.mark.parametrize("wrong", ["nonsense", "ftp://host:1"])
def test_what_is_no_address_is_named(wrong):
    with pytest.raises(ConnectionError, match="is not an address such as tcp://host:8786"):
        check(SUMS, Budget(), cluster=wrong)


def test_a_scheduler_that_does_not_answer_is_named():
    with pytest.raises(ConnectionError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        check(SUMS, Budget(), cluster="tcp://127.0.0.1:9")


def test_without_dask_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'tendsto\[cluster\]'"):
        check(SUMS, Budget(), cluster="tcp://127.0.0.1:9")
