"""Files of root ids as pandas, spreadsheets and people write them."""

from __future__ import annotations

import codecs
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectomebench.build.config import load_config
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.sources.cave.root_files import read_root_ids

A, B = 720575940628857210, 720575940628857211  # one double-precision number stands for both


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "roots.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


GOOD = {
    "one a line": f"{A}\n{B}\n",
    "no last line end": f"{A}\n{B}",
    "Windows": f"{A}\r\n{B}\r\n",
    "blank lines": f"\n{A}\n\n   \n{B}\n\n",
    "comments": f"# from the lab of Zürich\n{A}  # checked\n#{A + 1}\n{B}\n",
    "a header": f"root_id\n{A}\n{B}\n",
    "any header": f"my roots\n{A}\n{B}\n",
    "a quoted header": f'"root_id"\n"{A}"\n"{B}"\n',
    "quotes": f"'{A}'\n\"{B}\"\n",
    "the index of pandas": f",root_id\n0,{A}\n1,{B}\n",
    "columns": f'cell_type,pt_root_id,n\nKC,{A},3\n"a, b",{B},4\n',
    "tabs": f"type\tRoot_ID\na\t{A}\nb\t{B}\n",
    "semicolons": f"type;root_id\na;{A}\nb;{B}\n",
    "cells without a value": f"root_id,type\n{A},a\n,b\nNaN,c\n{B},d\n",
    "one line": f"{A}, {B}\n",
    "one line of a list": f"[{A}, {B}]",
    "one line with spaces": f"{A} {B}\n",
    "commas at the ends": f"{A},\n{B},\n",
    "a list of JSON over lines": f"[\n  {A},\n  {B}\n]\n",
    "a list of YAML": f"- {A}\n- {B}\n",
    "a set of Python": f"{{{A}, {B}}}\n",
}


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["", "marked"])
@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_ids_are_exact_in_all_these_forms(tmp_path: Path, content: str, mark: bytes) -> None:
    assert read_root_ids(written(tmp_path, mark + content.encode())) == [A, B]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    assert read_root_ids(written(tmp_path, f"# Zürich\nroot_id\n{A}\n{B}\n".encode(encoding))) == [A, B]


BAD = {
    "a float of pandas": (f"root_id\n{A}\n{float(A)}\n", 3, "floating-point"),
    "a float of a spreadsheet": (f"{A}\n7.20576E+17\n", 2, "floating-point"),
    "negative": (f"{A}\n\n-1\n", 3, "-1 is no id"),
    "above 64 bits": (f"# ids\n{2**64}\n", 2, f"{2**64} is no id"),
    "background": (f"{A}\n0\n", 2, "0 is no id"),
    "a word": (f"{A}\nroot 7\n", 2, "'root 7' is no id"),
    "a word alone": (f"{A}\nnothing\n", 2, "'nothing' is no id"),
    "a table without a header": (f"0,{A}\n1,{B}\n", 1, "several values"),
    "other columns": (f"a,b\n{A},{B}\n", None, "has the columns a, b"),
    "thousands": ("720,575,940,628,857,210\n", 1, "marks between its thousands"),
    "thousands, one of several": (f"{A}\n720,575,940,628,857,210\n", 2, "marks between its thousands"),
    "thousands with spaces": ("720\u202f575\u202f940\u202f628\u202f857\u202f210\n", 1, "marks between its thousands"),
    "thousands with points": ("720.575.940.628.857.210\n", 1, "marks between its thousands"),
    "thousands in a table": ('root_id,n\n"720,575,940,628,857,210",3\n', 2, "marks between its thousands"),
    "a table of R with names of rows": (f'"root_id"\n"1" {A}\n', 2, "holds 2 values, but the first line names 1"),
    "an address": (f"https://spelunker/{A}\n", None, "holds no root id"),
    "a table without values": ("root_id\nnan\n", None, "holds no root id"),
    "nothing": ("# none\n\n", None, "holds no root id"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None, ""),
}


@pytest.mark.parametrize(("content", "line", "words"), BAD.values(), ids=BAD)
def test_what_is_no_id_is_one_line_with_file_and_line(
    tmp_path: Path, content: str | bytes, line: int | None, words: str
) -> None:
    with pytest.raises(ConnectomeBenchError) as caught:
        read_root_ids(written(tmp_path, content))
    message = str(caught.value)
    assert "roots.csv" in message and words in message and "\n" not in message
    if line is not None:
        assert f"roots.csv line {line}" in message


def test_a_column_that_pandas_wrote_with_a_null_is_refused_and_a_nullable_one_is_read(tmp_path: Path) -> None:
    ids = [A, None, B]
    pd.DataFrame({"root_id": ids}).to_csv(tmp_path / "float.csv", index=False)
    with pytest.raises(ConnectomeBenchError, match=r"float\.csv line 2: .*floating-point"):
        read_root_ids(tmp_path / "float.csv")
    pd.DataFrame({"root_id": pd.array(ids, dtype="UInt64"), "x": 1.5}).to_csv(tmp_path / "exact.csv")
    assert read_root_ids(tmp_path / "exact.csv") == [A, B]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80) | st.text("0123456789,;\t\"'# \n\rrot_id.-e", max_size=80).map(str.encode))
def test_any_file_is_ids_or_one_line(tmp_path: Path, content: bytes) -> None:
    try:
        found = read_root_ids(written(tmp_path, content))
    except ConnectomeBenchError as error:
        assert "\n" not in str(error) and "roots.csv" in str(error)
    else:
        assert all(1 <= root < 2**64 for root in found)


CONFIG = """\
species: fly
source:
  cave:
    until: {until}
    roots:
      ids:
        - {a}
        - {b}
"""


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("7.2057594062885721e+17", "floating-point"),
        ("720575940628857211.0", "floating-point"),
        ("7.2e17", "floating-point"),
        ("-1", "-1 is no id"),
        ("18446744073709551616", "18446744073709551616 is no id"),
        ("0", "0 is no id"),
        ("true", "no id"),
        ("abc", "no id"),
        ("2024-06-01", "no id"),
    ],
)
def test_ids_of_a_configuration_are_refused_with_file_and_line(tmp_path: Path, entry: str, words: str) -> None:
    path = tmp_path / "build.yaml"
    path.write_text(CONFIG.format(until="2024-06-01", a=A, b=entry))
    with pytest.raises(ConnectomeBenchError, match=r"build\.yaml line 8: source\.cave\.roots\.ids") as caught:
        load_config(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("until", ["2024-06-01", "2024-06-01T02:00:00", "2024-06-01 02:00:00", "2024-06-01T02:00:00Z"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_ids_and_unquoted_dates_of_a_configuration_are_taken(tmp_path: Path, until: str, quote: str) -> None:
    path = tmp_path / "build.yaml"
    path.write_text(CONFIG.format(until=f"{quote}{until}{quote}", a=A, b=f"'{B}'"))
    cave = load_config(path).source.cave
    assert cave is not None and cave.until == until and cave.roots.ids == (A, B)
