import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from tendsto.cli import app


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
