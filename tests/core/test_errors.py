"""The error for users is one line, whatever it quotes."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from connectomebench.core.errors import ConnectomeBenchError


@given(st.text())
def test_a_message_is_one_printable_line(text: str) -> None:
    error = ConnectomeBenchError(text)
    assert len(str(error).splitlines()) <= 1 and str(error).isprintable()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    if text.isprintable():
        assert str(error) == text.strip()


def test_lines_are_joined() -> None:
    message = "cannot read a.parquet: bad\n  magic\r\n\x1b[31mbytes"
    assert str(ConnectomeBenchError(message)) == "cannot read a.parquet: bad magic [31mbytes"
