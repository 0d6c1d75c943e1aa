"""A deployed method does what the simulator does, and survives clients that do not."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr", reason="Flower is missing: pip install 'tendsto[federated]'")
import flwr
from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

import tendsto as tt
from tendsto.federated import (
    EF21,
    CompressedSGD,
    DoubleCompression,
    EControl,
    FedAMD,
    FedAvg,
    FederatedQuadratic,
    IdealErrorFeedback,
    Recorded,
    TopK,
    Uniform,
    flower,
    random_quadratics,
)

ROUNDS, CLIENTS, X0 = 5, 3, jnp.ones(12)


def whole(participation=None):
    problem = random_quadratics(jax.random.key(3), CLIENTS, 12, spread=3.0, noise=0.5)
    return FederatedQuadratic(
        problem.hessians, problem.linear, problem.noise, participation=participation or tt.federated.Everyone()
    )


def client(context):
    number, problem = int(context.node_config["partition-id"]), whole()
    rows = slice(number, number + 1)
    return number, FederatedQuadratic(problem.hessians[rows], problem.linear[rows], problem.noise)


class Loopback:
    """Hands messages to client apps in this process; `fault` may change or drop the reply of a client."""

    def __init__(self, app, fault=None):
        self.app, self.fault = app, fault or (lambda number, this, reply: [reply])
        self.contexts = {
            100 + number: Context(1, 100 + number, {"partition-id": number}, RecordDict(), {})
            for number in range(CLIENTS)
        }

    def get_node_ids(self):
        return list(self.contexts)

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = "message"
            context = self.contexts[message.metadata.dst_node_id]
            try:
                reply = self.app(message, context)
                if message.metadata.message_type == "train":
                    number, this = int(context.node_config["partition-id"]), message.content["config"]["round"]
                    replies += self.fault(number, this, reply)
                else:
                    replies.append(reply)
            except RuntimeError as error:  # what Flower makes of a client that raises
                replies.append(Message(Error(0, str(error)), reply_to=message))
        return replies


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


METHODS = {
    "averaging": FedAvg(0.05, steps=3),
    "feedback": EF21(TopK(2), 0.01),
    "control": EControl(TopK(2), 0.01, 0.1),
}
OTHERS = {
    "two messages": DoubleCompression(TopK(2), 0.01),
    "anchors": FedAMD(0.05, 0.5, steps=3, anchor_batches=2),
}


def deployed(method, fault=None, participation=None):
    app = flower.client_app(method, X0, client)
    roster = flower.Roster(CLIENTS, participation=participation or tt.federated.Everyone())
    strategy = flower.RoundStrategy(method, roster, X0)
    strategy.start(Loopback(app, fault), strategy.initial_arrays(), num_rounds=ROUNDS)
    return strategy


@pytest.mark.parametrize("name", METHODS | OTHERS)
def test_a_federation_does_what_the_simulator_does(name):
    method = (METHODS | OTHERS)[name]
    strategy = deployed(method, participation=Uniform(2))
    trace = tt.run(method, whole(Uniform(2)), X0, steps=ROUNDS)
    np.testing.assert_allclose(strategy.x, trace.x[0], rtol=1e-13)
    assert float(strategy.state.cost.bits_up) == trace.final("bits_up")
    assert strategy.left_out == []


TRACED = []


class Traced(EF21):
    """Notes each time that a client's part is made into a program."""

    def answer(self, *call):
        TRACED.append(type(self))
        return super().answer(*call)


def test_a_client_that_comes_with_every_message_compiles_once():
    """As Flower's simulation has it, which sends the app to another process each time."""
    method = Traced(TopK(2), 0.01)
    sent = cloudpickle.dumps(flower.client_app(method, X0, client))
    traced = []
    for _ in range(2):
        strategy = flower.RoundStrategy(method, flower.Roster(CLIENTS), X0)
        strategy.start(Loopback(lambda *call: cloudpickle.loads(sent)(*call)), strategy.initial_arrays(), num_rounds=3)
        traced.append(len(TRACED))
    assert traced[0] == traced[1] < 9
    np.testing.assert_allclose(strategy.x, tt.run(method, whole(), X0, steps=3).x[0], rtol=1e-13)


def lost(number, this, reply):
    return [] if (number, this) == (1, 3) else [reply]


def broken(number, this, reply):
    if (number, this) == (1, 3):
        raise RuntimeError("it broke")
    return [reply]


def not_finite(number, this, reply):
    if (number, this) == (1, 3):
        *_, values = reply.content["answer"].to_numpy_ndarrays()
        reply.content["answer"] = ArrayRecord([np.zeros(0, np.uint32), np.full(12, np.nan, values.dtype)])
    return [reply]


def wrong_shape(number, this, reply):
    if (number, this) == (1, 3):
        reply.content["answer"] = ArrayRecord([np.zeros(0, np.uint32), np.ones(5)])
    return [reply]


class Repeats:
    """In round 3, client 1 sends again what it sent in round 2."""

    def __call__(self, number, this, reply):
        if (number, this) == (1, 2):
            self.before = reply.content
        if (number, this) == (1, 3):
            reply.content = self.before
        return [reply]


FAULTS = {
    "lost": (lost, None),
    "error": (broken, "it broke"),
    "not-finite": (not_finite, "not finite"),
    "shape": (wrong_shape, "expected shape"),
    "repeated": (Repeats(), "answers round 2"),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_that_does_not_count_makes_its_client_absent(name, fault):
    failing, reason = FAULTS[fault]
    strategy = deployed(METHODS[name], failing)
    history = np.ones((ROUNDS, CLIENTS), bool)
    history[2, 1] = False
    trace = tt.run(METHODS[name], whole(Recorded(history)), X0, steps=ROUNDS)
    np.testing.assert_allclose(strategy.x, trace.x[0], rtol=1e-13)
    told = [(this, number) for this, number, _ in strategy.left_out]
    assert told == ([] if reason is None else [(3, 1)])
    assert reason is None or reason in strategy.left_out[0][2]


def test_a_second_answer_of_one_client_is_left_out():
    strategy = deployed(METHODS["averaging"], lambda number, this, reply: [reply, reply] if number == 0 else [reply])
    trace = tt.run(METHODS["averaging"], whole(), X0, steps=ROUNDS)
    np.testing.assert_allclose(strategy.x, trace.x[0], rtol=1e-13)
    assert strategy.left_out == [(this, 0, "answered twice") for this in range(1, ROUNDS + 1)]


def test_a_client_that_lost_what_it_kept_stays_out():
    method = METHODS["feedback"]
    app = flower.client_app(method, X0, client)
    strategy = flower.RoundStrategy(method, flower.Roster(CLIENTS), X0)
    grid = Loopback(app)

    def forget(number, this, reply):
        if (number, this) == (2, 3):
            grid.contexts[102].state = RecordDict()
        return [reply]

    grid.fault = forget
    strategy.start(grid, strategy.initial_arrays(), num_rounds=ROUNDS)
    assert [(this, number) for this, number, _ in strategy.left_out] == [(4, 2), (5, 2)]
    assert "after round 3 is lost" in strategy.left_out[0][2]
    history = np.ones((ROUNDS, CLIENTS), bool)
    history[3:, 2] = False
    trace = tt.run(method, whole(Recorded(history)), X0, steps=ROUNDS)
    np.testing.assert_allclose(strategy.x, trace.x[0], rtol=1e-13)


def test_a_client_that_keeps_nothing_has_nothing_to_lose():
    method = CompressedSGD(TopK(2), 0.01)
    grid = Loopback(flower.client_app(method, X0, client))

    def forget(number, this, reply):
        grid.contexts[100 + number].state = RecordDict()
        return [reply]

    grid.fault = forget
    strategy = flower.RoundStrategy(method, flower.Roster(CLIENTS, participation=Uniform(2)), X0)
    strategy.start(grid, strategy.initial_arrays(), num_rounds=ROUNDS)
    trace = tt.run(method, whole(Uniform(2)), X0, steps=ROUNDS)
    np.testing.assert_allclose(strategy.x, trace.x[0], rtol=1e-13)
    assert strategy.left_out == []


def test_what_knows_the_solution_is_not_for_a_federation():
    with pytest.raises(ValueError, match="problem: Roster does not know its minimiser"):
        flower.RoundStrategy(IdealErrorFeedback(TopK(2), 0.01), flower.Roster(CLIENTS), X0)


def test_mostly_zero_messages_are_sent_as_what_is_not_zero():
    sparse = flower._encode(jnp.zeros(1000).at[7].set(2.0))
    dense = flower._encode(jnp.ones(1000))
    assert sparse["1"].numpy().tolist() == [2.0]
    assert sum(array.numpy().nbytes for array in sparse.values()) == 12
    assert sum(array.numpy().nbytes for array in dense.values()) == 8000


@pytest.mark.slow
def test_flower_s_simulation_does_what_the_simulator_does():
    pytest.importorskip("ray", reason="Ray is missing: pip install 'tendsto[federated]'")
    program = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
import tendsto as tt
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation
from tendsto.federated import EF21, FederatedQuadratic, TopK, Uniform, flower, random_quadratics

def whole(**environment):
    return random_quadratics(jax.random.key(3), 3, 12, spread=3.0, noise=0.5, **environment)

def client(context):
    jax.config.update("jax_enable_x64", True)
    number, problem = int(context.node_config["partition-id"]), whole()
    rows = slice(number, number + 1)
    return number, FederatedQuadratic(problem.hessians[rows], problem.linear[rows], noise=problem.noise)

method, x0 = EF21(TopK(2), 0.01), jnp.ones(12)
strategy = flower.RoundStrategy(method, flower.Roster(3, participation=Uniform(2)), x0)
server = ServerApp()

@server.main()
def main(grid, context):
    strategy.start(grid, strategy.initial_arrays(), num_rounds=4, timeout=240)

resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 1}}
run_simulation(server, flower.client_app(method, x0, client), 3, "ray", resources)
trace = tt.run(method, whole(participation=Uniform(2)), x0, steps=4)
np.testing.assert_allclose(strategy.x, trace.x[0], rtol=1e-13)
assert strategy.left_out == []
"""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


APP = """
import cloudpickle
import jax
jax.config.update("jax_enable_x64", True)
import json, os, signal, traceback
import jax.numpy as jnp
import numpy as np
from pathlib import Path
from flwr.serverapp import ServerApp
from tendsto.federated import EF21, FederatedQuadratic, TopK, flower, random_quadratics

FOLDER = Path({folder!r})
METHOD, X0 = EF21(TopK(2), 0.01), jnp.ones(12)


def own(context):
    number, problem = int(context.node_config["partition-id"]), random_quadratics(jax.random.key(3), 3, 12)
    rows = slice(number, number + 1)
    return number, FederatedQuadratic(problem.hessians[rows], problem.linear[rows])


class Watched(flower.RoundStrategy):
    def configure_train(self, server_round, arrays, config, grid):
        messages = super().configure_train(server_round, arrays, config, grid)
        if server_round == 2:
            os.killpg(int((FOLDER / "node-1.pid").read_text()), signal.SIGKILL)
        return messages


client = flower.client_app(METHOD, X0, own)
server = ServerApp()


@server.main()
def main(grid, context):
    strategy = Watched(METHOD, flower.Roster(3), X0)
    try:
        strategy.start(grid, strategy.initial_arrays(), num_rounds=3, timeout=45)
        result = {{"x": np.asarray(strategy.x).tolist(), "left_out": strategy.left_out}}
    except Exception:
        result = {{"error": traceback.format_exc()}}
    (FOLDER / "unfinished").write_text(json.dumps(result))
    os.replace(FOLDER / "unfinished", FOLDER / "result.json")
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "federation"
description = "Three clients"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "tests"
[tool.flwr.app.components]
serverapp = "federation.app:server"
clientapp = "federation.app:client"
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_over_the_network_a_killed_client_is_absent_and_the_others_do_what_the_simulator_does(tmp_path):
    """Flower's server and three nodes as processes on loopback; one of them dies by SIGKILL within the second round."""
    (tmp_path / "app" / "federation").mkdir(parents=True)
    (tmp_path / "app" / "federation" / "__init__.py").touch()
    (tmp_path / "app" / "federation" / "app.py").write_text(APP.format(folder=str(tmp_path)))
    (tmp_path / "app" / "pyproject.toml").write_text(PROJECT)
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
    )
    programs = [str(Path(flwr.__file__).parents[1] / "bin"), str(Path(sys.executable).parent)]
    environment = os.environ | {
        "FLWR_HOME": str(tmp_path),
        "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }

    def begin(name, *command):
        with (tmp_path / f"{name}.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        (tmp_path / f"{name}.pid").write_text(str(process.pid))
        return process

    port = address.rpartition(":")[2]
    runtime = ["--insecure", "--superlink", address]
    processes = [
        begin("link", "flower-superlink", "--insecure", "--disable-runtime-dependency-installation", "--port", port)
    ]
    try:
        processes += [
            begin(
                f"node-{i}",
                "flower-supernode",
                *runtime,
                "--port",
                str(free_port()),
                "--node-config",
                f"partition-id={i}",
            )
            for i in range(3)
        ]
        deadline = time.monotonic() + 300
        while subprocess.run(
            ["flwr", "run", "app", "here"], cwd=tmp_path, env=environment, capture_output=True
        ).returncode:
            assert time.monotonic() < deadline, (tmp_path / "link.log").read_text()[-3000:]
            time.sleep(1)
        while not (tmp_path / "result.json").exists():
            assert time.monotonic() < deadline, (tmp_path / "link.log").read_text()[-3000:]
            time.sleep(0.2)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    history = np.ones((3, 3), bool)
    history[1:, 1] = False
    problem = random_quadratics(jax.random.key(3), 3, 12, participation=Recorded(history))
    trace = tt.run(EF21(TopK(2), 0.01), problem, X0, steps=3)
    result = json.loads((tmp_path / "result.json").read_text())
    assert "error" not in result, result["error"]
    np.testing.assert_allclose(result["x"], trace.x[0], rtol=1e-13)
    assert {client for _, client, _ in result["left_out"]} <= {1}
