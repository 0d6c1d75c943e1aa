"""Compressed data-parallel training by two processes is the simulator's method with two clients."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tendsto as tt
from tendsto.federated import EF21, RandK, ScaledSign, TopK, random_quadratics

torch = pytest.importorskip("torch", reason="PyTorch is missing: pip install 'tendsto[torch]'")

STEPS, STEP_SIZE = 12, 0.02
WORKER = """
import sys
import jax, numpy as np, torch
from torch.nn.parallel import DistributedDataParallel
jax.config.update("jax_enable_x64", True)
from tendsto.federated import ScaledSign, TopK
from tendsto.federated.ddp import ErrorFeedback, error_feedback_hook
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
data = np.load(f"{folder}/data.npz")
hessian, linear = (torch.from_numpy(data[name][rank]) for name in ("hessians", "linear"))

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.x = torch.nn.Parameter(torch.ones(6, dtype=torch.float64))
    def forward(self):
        return 0.5 * self.x @ hessian @ self.x - linear @ self.x

last = {}
for feedback in ("EF21", "EF14"):
    for name, compressor in (("top", TopK(2)), ("sign", ScaledSign())):
        model = DistributedDataParallel(Model())
        model.register_comm_hook(ErrorFeedback(compressor, feedback), error_feedback_hook)
        optimizer = torch.optim.SGD(model.parameters(), float(data["step_size"]))
        for _ in range(int(data["steps"])):
            optimizer.zero_grad()
            model().backward()
            optimizer.step()
        last[f"{feedback}-{name}"] = model.module.x.detach().numpy()
np.savez(f"{folder}/{rank}.npz", **last)
torch.distributed.destroy_process_group()
"""
COMPRESSORS = {"top": TopK(2), "sign": ScaledSign()}


@pytest.fixture(scope="module")
def problem():
    return random_quadratics(jax.random.key(1), 2, 6, spread=3.0)


@pytest.fixture(scope="module")
def trained(problem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    np.savez(folder / "data.npz", hessians=problem.hessians, linear=problem.linear, steps=STEPS, step_size=STEP_SIZE)
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(folder)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [worker.communicate(timeout=100)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


def test_workers_agree_to_the_bit(trained):
    for name in trained[0]:
        np.testing.assert_array_equal(trained[0][name], trained[1][name])


@pytest.mark.parametrize("name", COMPRESSORS)
def test_ef21_is_the_simulators(name, problem, trained):
    # The simulator steps first and then hears of gradients, so that with zero estimates its first step stands still.
    method = EF21(COMPRESSORS[name], STEP_SIZE, start="zero")
    trace = tt.run(method, problem, jnp.ones(6), steps=STEPS + 1)
    np.testing.assert_allclose(trained[0][f"EF21-{name}"], trace.x[0], rtol=1e-12)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_ef14_is_the_algorithm(name, problem, trained):
    hessians, linear, x = np.asarray(problem.hessians), np.asarray(problem.linear), np.ones(6)
    errors = np.zeros((2, 6))
    for _ in range(STEPS):
        owed = errors + hessians @ x - linear
        sent = np.asarray([COMPRESSORS[name](jnp.asarray(row), jax.random.key(0)) for row in owed])
        errors, x = owed - sent, x - STEP_SIZE * sent.mean(axis=0)
    np.testing.assert_allclose(trained[0][f"EF14-{name}"], x, rtol=1e-12)


def test_workers_and_steps_draw_anew_and_buckets_have_memories_of_their_own(monkeypatch):
    from tendsto.federated import ddp

    gradient, places = torch.ones(50, dtype=torch.float64), []
    for rank in range(3):
        monkeypatch.setattr(ddp.distributed, "get_rank", lambda rank=rank: rank)
        worker = ddp.ErrorFeedback(RandK(1), "EF14")
        # Two buckets in turns: each owes itself what it did not send.
        sent = [worker.message((number % 2, 50), gradient) for number in range(6)]
        places += [int(message.argmax()) for message in sent]
        for number, memory in worker._memory.items():
            np.testing.assert_allclose(memory + sum(sent[number[0] :: 2]), 3 * gradient)
    assert len(set(places)) > 9


def test_another_feedback_is_refused():
    from tendsto.federated.ddp import ErrorFeedback

    with pytest.raises(ValueError, match="feedback"):
        ErrorFeedback(TopK(1), "EF22")
