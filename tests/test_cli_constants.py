import json
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from typer.testing import CliRunner

from tendsto.cli import app
from tendsto.constants import LIBRARY, PCF, identify


def tendsto(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_formulas_of_a_constant_are_told_and_kept(tmp_path):
    out = tmp_path / "pi.parquet"
    result = tendsto("discover", "pi", "--degree", "1,2", "--box", 2, "--depth", 200, "--out", out, "--workers", 1)
    assert result.exit_code == 0
    assert "PCF([2, 1], [1, 0, 0]) = 4/pi" in result.stdout
    told = [line for line in result.stdout.splitlines() if line.startswith("PCF")]
    kept = pd.read_parquet(out)
    assert len(told) == (kept["constant"] == "pi").sum()
    assert f"{len(told)} told, {len(kept)} fractions" in result.stdout


def test_with_json_only_objects_stand_on_standard_output(tmp_path):
    out = tmp_path / "any.parquet"
    result = tendsto("discover", "any", "--box", 2, "--out", out, "--workers", 1, "--json")
    found = [json.loads(line) for line in result.stdout.splitlines() if line]
    assert {"pi", "atan(sqrt2)*sqrt2"} <= {each["constant"] for each in found}
    assert all("+/-" in each["limit"] for each in found)
    assert {tuple(each["a"]) for each in found} <= {tuple(a) for a in pd.read_parquet(out)["a"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["discover", "tau"], "'tau' is not one of any, pi"),
        (["discover", "pi", "--degree", "1"], "--degree: expected two numbers"),
        (["discover", "pi", "--degree", "1,x"], "--degree: expected integers"),
        (["discover", "pi", "--degree", "1,20"], "degree_b: must lie in"),
        (["formulas", "build", "--degree", "1"], "--degree: expected two numbers"),
        (["formulas", "build", "--degree", "1,20"], "degree_b: must lie in"),
        (["formulas", "build", "--cluster", "nowhere"], "'nowhere' is not an address"),
        (["formulas", "cluster", "metrics.parquet"], "does not exist"),
        (["identify"], "give the digits of a number, or a fraction"),
        (["identify", "3.14159", "--a", "1", "--b", "1"], "give the digits"),
        (["identify", "--a", "1,1", "--b", "-1,0,0"], "does not converge"),
        (["identify", "--a", "1,1.5", "--b", "1"], "--a: expected integers"),
        (["identify", "3.1"], "digits are too few"),
        (["identify", "pi"], "expected the digits"),
        (["identify", "3.14159265", "--constant", "tau"], "--constant: 'tau'"),
    ],
)
def test_a_usage_error_is_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = tendsto(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    out = tmp_path_factory.mktemp("formulas") / "metrics.parquet"
    result = tendsto("formulas", "build", "--box", 3, "--depth", 1000, "--reduced-only", "--out", out, "--workers", 1)
    assert result.exit_code == 0, result.output
    return out, result.stdout


def test_a_data_set_is_built(data_set):
    out, told = data_set
    table = pd.read_parquet(out)
    for status, count in table["status"].value_counts().items():
        assert f"{count:,}  {status}\n" in told
    assert f"{len(table):,} of the 16,416 fractions of the box" in told
    again = tendsto("formulas", "build", "--box", 3, "--depth", 1000, "--reduced-only", "--out", out, "--json")
    assert json.loads(again.stdout) == {
        "out": str(out),
        "box": 16416,
        "rows": len(table),
        **table["status"].value_counts().to_dict(),
    }


def test_the_clusters_of_a_data_set_are_named(data_set):
    out, _ = data_set
    told = tendsto("formulas", "cluster", out)
    assert told.exit_code == 0
    assert told.stdout.splitlines()[0].split() == ["constant", "members", "verified", "evidence"]
    result = tendsto("formulas", "cluster", out, "--json")
    clusters = [json.loads(line) for line in result.stdout.splitlines()]
    sizes = [len(each["formulas"]) for each in clusters]
    assert sizes == sorted(sizes, reverse=True)
    assert f"{len(clusters)} clusters hold {sum(sizes)} of " in result.stderr
    of_pi = [each for each in clusters if each["constant"] == "pi" and each["evidence"] == "anchor"]
    assert {"a": [2, 1], "b": [1, 0, 0]} in of_pi[0]["formulas"]
    for each in of_pi[0]["formulas"]:
        formula = PCF(each["a"], each["b"])
        assert identify(formula, [LIBRARY["pi"]]).constant == LIBRARY["pi"]


def test_what_is_no_data_set_is_told_in_one_line(tmp_path):
    out = tmp_path / "metrics.parquet"
    out.write_bytes(b"PAR1 nonsense")
    result = tendsto("formulas", "cluster", out)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    pd.DataFrame({"status": ["measured"]}).to_parquet(out)
    result = tendsto("formulas", "cluster", out)
    assert (result.exit_code, result.stderr) == (
        2,
        "tendsto: table: has no column eigenvalue_ratio, factorial_growth\n",
    )


def test_ctrl_c_ends_a_build_cleanly(tmp_path):
    out = tmp_path / "metrics.parquet"
    arguments = ["formulas", "build", "--box", "4", "--out", str(out), "--workers", "2"]
    process = subprocess.Popen([sys.executable, "-m", "tendsto.cli", *arguments], stderr=subprocess.PIPE, text=True)
    folder, limit = tmp_path / ".metrics.parquet.parts", time.monotonic() + 120
    while not list(folder.glob("*.parquet")):
        assert time.monotonic() < limit, "no part landed"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == f"tendsto: interrupted; what is done is kept beside {out}, run again to go on\n"
    assert not out.exists()
    assert list(folder.glob("*.parquet"))


def test_numbers_are_named():
    assert tendsto("identify", "0.785398163397448").stdout.startswith("pi/4")
    assert tendsto("identify", "-0.785398163397448").stdout.startswith("-pi/4")
    assert tendsto("identify", "--a", "34,51,27,5", "--b", "-1,0,0,0,0,0,0").stdout.startswith("6/zeta3")
    named = json.loads(tendsto("identify", "2.718281828459045", "--json").stdout)
    assert (named["relation"], named["latex"], named["digits"]) == ("e", "e", 15)


def test_a_field_is_shown_and_scanned(tmp_path):
    shown = tendsto("field", "zeta3").stdout
    assert "conservative: yes" in shown
    assert "-0.16809262741929" in shown
    out = tmp_path / "zeta3.svg"
    scan = tendsto("field", "zeta3", "--scan", "--steps", 120, "--out", out).stdout.splitlines()
    assert scan[1].split()[:3] == ["1", "1", "60"]
    assert scan[1].split()[-1].startswith("+0.1")
    assert "<svg" in out.read_text()
    rows = [json.loads(line) for line in tendsto("field", "ln2", "--scan", "--steps", 60, "--json").stdout.splitlines()]
    assert (rows[0]["x"], rows[0]["y"]) == (1, 1)
    assert tendsto("field", "zeta9").exit_code == 2
    assert "zeta9" in tendsto("field", "zeta9").stderr


def test_digits_without_a_name_say_so():
    result = tendsto("identify", "0.78539816343897")
    assert result.exit_code == 1
    assert "no name" in result.stdout
    assert json.loads(tendsto("identify", "0.78539816343897", "--json").stdout)["relation"] is None
