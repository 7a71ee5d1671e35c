"""Tokens that are scored: whole labels, with the merges of the real tokenizer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_qwen3_vl import few_merges
from transformers import AutoTokenizer

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import TASKS, get_task
from connectomebench.models.answer_tokens import answer_endings, forced_tokens, scored_endings

QWEN3 = Path(__file__).parents[3] / "shared" / "data" / "qwen3_tokenizer"
FIXTURES = Path(__file__).parents[1] / "fixtures"
needs_qwen3 = pytest.mark.skipif(not QWEN3.is_dir(), reason="the whole tokenizer of Qwen3 is not here")


@pytest.fixture(scope="module", params=["few_merges", pytest.param("whole", marks=needs_qwen3)])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return few_merges() if request.param == "few_merges" else AutoTokenizer.from_pretrained(QWEN3)


def test_tagged_letters_fall_into_the_tokens_of_qwen3(tokenizer: Any) -> None:
    def middle(label: str) -> list[str]:
        tokens = tokenizer.tokenize(f"<answer>{label}</answer>")
        assert tokens[:2] == ["<", "answer"]
        assert tokens[-3:] == ["</", "answer", ">"]
        return tokens[2:-3]

    assert [middle(letter) for letter in "abcdef"] == [[f">{letter}"] for letter in "abcdef"]
    assert [middle(label) for label in ("g", "none", "yes", "no")] == [
        [">", "g"],
        [">", "none"],
        [">", "yes"],
        [">", "no"],
    ]


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.labels])
def test_every_label_is_scored_whole_and_in_one_pass(tokenizer: Any, task: str) -> None:
    labels = get_task(task).labels
    shared, endings = answer_endings(tokenizer, labels)
    for label, ending in zip(labels, endings, strict=True):
        assert tokenizer.decode([*shared, *ending]) == f"<answer>{label}"
    assert len(forced_tokens(endings)) == 1


def test_closing_tags_that_stick_to_a_label_belong_to_it() -> None:
    class Sticky:
        """A tokenizer with the tokens ``<answer>``, ``a</``, ``b``, ``</`` and ``answer>``."""

        def __call__(self, reply: str, **_: Any) -> dict[str, Any]:
            spans = [(0, 8), (8, 11), (11, 18)] if reply[8] == "a" else [(0, 8), (8, 9), (9, 11), (11, 18)]
            names = {"<answer>": 0, "a</": 1, "b": 2, "</": 3, "answer>": 4}
            return {"input_ids": [names[reply[i:j]] for i, j in spans], "offset_mapping": spans}

    assert answer_endings(Sticky(), ("a", "b")) == ((0,), [(1,), (2,)])


def test_a_tokenizer_without_places_of_letters_is_refused() -> None:
    def slow(*_: Any, **__: Any) -> None:
        raise NotImplementedError("return_offset_mapping is not available when using Python tokenizers")

    with pytest.raises(ConnectomeBenchError, match="cannot be scored; use generated"):
        answer_endings(slow, ("a", "b"))


def test_replies_are_scored_through_their_label_and_until_they_differ() -> None:
    assert scored_endings([(1, 2, 3, 9), (1, 2, 4, 9)], [3, 3]) == ((1, 2), [(3,), (4,)])
    # the label of the first ends with its third token, of the second with its second
    assert scored_endings([(1, 2, 3, 9), (1, 4, 9)], [3, 2]) == ((1,), [(2, 3), (4,)])
    shared, endings = scored_endings([(1, 5, 9), (1, 5, 6, 9), (1, 5, 6, 7, 9), (1, 8, 9)], [2, 3, 4, 2])
    assert (shared, endings) == ((1,), [(5, 9), (5, 6, 9), (5, 6, 7), (8,)])
    assert forced_tokens(endings) == [(5, 6)]
    assert forced_tokens([(1, 2), (1, 3), (4, 5), (6,)]) == [(1,), (4,)]
    assert forced_tokens([(3,), (4,)]) == [()]


@needs_qwen3
def test_the_fixture_is_what_its_script_makes_and_falls_apart_as_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FIXTURES))
    import make_qwen3_merges as maker

    monkeypatch.setattr(sys, "argv", ["make", str(QWEN3), str(tmp_path / "made.json")])
    maker.main()
    assert (tmp_path / "made.json").read_bytes() == maker.OUT.read_bytes()
    whole, few = AutoTokenizer.from_pretrained(QWEN3), few_merges()
    for text in maker.kept_texts():
        assert few.tokenize(text) == whole.tokenize(text)
