"""Parts on disk against a table computed in one go, and against everything that can damage or interrupt them."""

import errno
import io
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tendsto.constants import parts
from tendsto.constants.parts import Parts

SCHEMA = pa.schema({"number": pa.int64(), "square": pa.float64()})
SIZE = 1000


def squares(unit):
    return pd.DataFrame({"number": range(*unit), "square": [float(n * n) for n in range(*unit)]})


def table(folder, *, unit=70, **settings):
    return Parts(folder / "squares.parquet", {"power": 2, **settings}, SCHEMA, SIZE, unit)


def compute(kept, call=squares, *, workers=1):
    return kept.compute(call, lambda it: it, workers=workers, cluster=None, progress=False)


def finish(kept, call=squares):
    for _ in compute(kept, call):
        pass
    kept.gather()
    kept.remove()
    return kept.out.read_bytes()


def begin(folder, count):
    """The parts of `count` units, and what else they were asked for."""
    kept = table(folder)
    landed = compute(kept)
    for _, _ in zip(range(count), landed, strict=False):
        pass
    landed.close()
    return sorted(kept.folder.glob("*.parquet"))


@pytest.fixture
def reference(tmp_path_factory):
    return finish(table(tmp_path_factory.mktemp("reference")))


def test_the_table_is_that_of_one_go(reference, tmp_path):
    (tmp_path / "squares.parquet").write_bytes(reference)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "squares.parquet"), squares((0, SIZE)))
    told = pq.read_schema(tmp_path / "squares.parquet").metadata[b"tendsto"].decode()
    assert '"power": 2' in told
    assert '"unit": 70' in told
    assert finish(table(tmp_path, unit=300)) != reference
    assert os.listdir(tmp_path) == ["squares.parquet"]


def test_only_missing_parts_are_computed_and_their_order_does_not_matter(reference, tmp_path):
    for path in begin(tmp_path, 15)[::2]:
        path.unlink()
    asked = []

    def call(unit):
        asked.append(unit)
        return squares(unit)

    assert finish(table(tmp_path), call) == reference
    assert 0 < len(asked) < 15
    assert all(stop - start == 70 or stop == SIZE for start, stop in asked)


def test_more_parts_than_are_read_at_a_time(tmp_path):
    finish(table(tmp_path, unit=7))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "squares.parquet"), squares((0, SIZE)))


def flipped(content):
    """The same bytes with one bit of a page turned; the footer stays as it is."""
    column = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0).column(1)
    last = column.dictionary_page_offset + column.total_compressed_size - 1
    return content[:last] + bytes([content[last] ^ 1]) + content[last + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda it: b"", lambda it: it[: len(it) // 2], lambda it: it[:-1], lambda it: b"PAR1 nonsense", flipped],
    ids=["empty", "half", "one byte short", "nonsense", "one bit"],
)
def test_a_damaged_part_is_computed_again(reference, tmp_path, damage):
    path = tmp_path / ".squares.parquet.parts" / "0-70.parquet"
    begin(tmp_path, 3)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match=r"0-70.parquet cannot be read .* computed again"):
        kept = table(tmp_path)
    assert finish(kept) == reference


@pytest.mark.parametrize("changed", [{"power": 3}, {"further": 1}, {"unit": 31}])
def test_parts_of_other_settings_are_refused(tmp_path, changed):
    begin(tmp_path, 3)
    before = sorted((tmp_path / ".squares.parquet.parts").iterdir())
    with pytest.raises(ValueError, match="holds parts of other settings"):
        table(tmp_path, **changed)
    assert sorted((tmp_path / ".squares.parquet.parts").iterdir()) == before


def test_parts_of_another_version_are_refused(tmp_path, monkeypatch):
    begin(tmp_path, 1)
    monkeypatch.setattr(parts.metadata, "version", lambda name: "999")
    with pytest.raises(ValueError, match="holds parts of other settings"):
        table(tmp_path)


def test_parts_left_by_half_a_removal_are_known_for_what_they_are(tmp_path):
    """Removing parts may be killed midway; what is left must not pass for parts of the next table."""
    for path in begin(tmp_path, 15)[1:]:
        path.unlink()
    with pytest.raises(ValueError, match="holds parts of other settings"):
        table(tmp_path, power=3)


def test_a_table_knows_whether_its_file_is_there(reference, tmp_path):
    assert not table(tmp_path).is_gathered()
    finish(table(tmp_path))
    assert table(tmp_path).is_gathered()
    assert not table(tmp_path, power=3).is_gathered()
    assert not table(tmp_path, unit=35).is_gathered()
    (tmp_path / "squares.parquet").write_bytes(flipped(reference))
    assert not table(tmp_path).is_gathered()


def test_a_part_that_is_cut_off_while_it_is_written_is_not_there(reference, tmp_path, monkeypatch):
    write = pq.write_table

    def cut_off(rows, stream, **options):
        write(rows, stream, **options)
        stream.seek(0)
        stream.truncate(100)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(parts.pq, "write_table", cut_off)
        with pytest.raises(KeyboardInterrupt):
            finish(table(tmp_path))
    assert list((tmp_path / ".squares.parquet.parts").iterdir()) == []
    assert finish(table(tmp_path)) == reference


def test_while_the_disk_is_full_parts_stay_in_memory(reference, tmp_path, monkeypatch):
    write, calls = parts.write_atomically, []

    def full(path):
        calls.append(path)
        if 3 <= len(calls) < 16:  # up to the last part
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path)

    monkeypatch.setattr(parts, "write_atomically", full)
    with pytest.warns(RuntimeWarning, match="No space left on device.*kept in memory"):
        assert finish(table(tmp_path)) == reference


def test_a_part_that_fails_is_told_and_the_others_are_kept(reference, tmp_path):
    def fails_once(unit):
        if unit[0] == 140:
            raise ArithmeticError("no such luck")
        return pd.DataFrame({"number": range(*unit), "square": [float(n * n) for n in range(*unit)]})

    kept = table(tmp_path)
    with pytest.raises(RuntimeError, match=r"140 to 210: .*no such luck"):
        for _ in compute(kept, fails_once, workers=2):
            pass
    again = table(tmp_path)
    assert [unit for unit in again.units if unit not in again.written] == [(140, 210)]
    assert finish(again) == reference


@pytest.mark.parametrize(("unit", "error"), [(0, ValueError), (1.5, TypeError)])
def test_a_unit_is_a_positive_number(tmp_path, unit, error):
    with pytest.raises(error, match="unit"):
        table(tmp_path, unit=unit)
