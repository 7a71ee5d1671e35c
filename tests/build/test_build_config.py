from pathlib import Path

import pytest

from connectomebench.build.config import load_config, parse_config
from connectomebench.core.errors import ConnectomeBenchError

MORPHOLOGY = {"species": "fly", "source": {"morphology": {}}}


def test_defaults_are_the_published_rules():
    config = parse_config(MORPHOLOGY)
    assert (config.proposals.cuts.k, config.proposals.cuts.min_body_voxels) == (20, 1000)
    assert config.proposals.cuts.cutout_nm == 5000
    assert config.candidates.radius_nm == 2000
    assert config.partition.cube_nm == 50_000
    assert (config.partition.max_validation, config.partition.max_test) == (128, 512)


def test_the_fingerprint_follows_the_values():
    other = parse_config(MORPHOLOGY | {"controls": {"seed": 1}})
    assert parse_config(MORPHOLOGY).fingerprint() == parse_config(dict(MORPHOLOGY)).fingerprint()
    assert other.fingerprint() != parse_config(MORPHOLOGY).fingerprint()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"species": "flie"}, "did you mean fly"),
        ({"tasks": ["merge_actoin"]}, "did you mean merge_action"),
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": ["segment_identities"]}, "did you mean segment_identity"),
        ({"source": {}}, "exactly one of"),
        ({"sitez": {}}, "did you mean sites"),
        ({"sites": {"extent": [1, 2]}}, "did you mean extent_nm"),
        ({"sites": {"extent_nm": [2000, 1000]}}, "smallest first"),
        ({"proposals": {"reach_nm": 100}}, "at least the largest view"),
        ({"partition": {"cube_nm": "wide"}}, "partition.cube_nm"),
        ({"partition": {"cube_nm": -5}}, "cube_nm must be above 0"),
    ],
)
def test_a_wrong_value_gets_one_clear_line(change, words):
    with pytest.raises(ConnectomeBenchError, match=words) as caught:
        parse_config(MORPHOLOGY | change)
    assert "\n" not in str(caught.value)


def test_files_and_overrides(tmp_path: Path):
    path = tmp_path / "build.yaml"
    path.write_text("species: fly\nsource: {morphology: {}}\n")
    assert load_config(path, {"partition.group_by": "body"}).partition.group_by == "body"
    with pytest.raises(ConnectomeBenchError, match="cannot read configuration"):
        load_config(tmp_path / "none.yaml")
    path.write_text("species: [fly")
    with pytest.raises(ConnectomeBenchError, match="not valid YAML"):
        load_config(path)
    path.write_text("fly")
    with pytest.raises(ConnectomeBenchError, match="must be a mapping"):
        load_config(path)
