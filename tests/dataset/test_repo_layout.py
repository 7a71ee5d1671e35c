"""Names of files in a repository, which come from outside."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from connectomebench.dataset.repo_layout import check_species_name, is_shard, species_of


@given(st.text(max_size=40) | st.from_regex(r"[./a-z]+/(train|test)-00000-of-0000[1-9]\.parquet", fullmatch=True))
def test_names_from_outside_never_leave_the_folder(path: str) -> None:
    species = species_of(path)
    if species is not None:
        check_species_name(species, "here")
        assert Path(path).parts in ((species, path.rsplit("/", 1)[-1]), (path,))
        assert is_shard(path) == ("/" in path)
    else:
        assert not is_shard(path)
