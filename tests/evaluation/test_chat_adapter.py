"""Ways to answer: what is asked, how replies become answers, and that a real model takes all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from stored_rows import row

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import TASKS
from connectomebench.evaluation.answer_mode import AnswerMode
from connectomebench.evaluation.chat_adapter import ChatModelAdapter, majority
from connectomebench.evaluation.prompt_variants import DEFAULT_VARIANT, PromptVariant
from connectomebench.models.chat import Conversation, Reply, Sampling
from connectomebench.models.images import decode
from connectomebench.models.prompt import messages
from connectomebench.models.vlm import VisionLanguageModel
from connectomebench.models.vlm_loading import load_vlm

GENERATED = AnswerMode("generated")
VOTES = AnswerMode("votes", votes=4, temperature=0.7)
NEAR, FAR = "(1, 2, 3), node 4", "(9, 9, 9)"
HIDDEN = {"sample_id": "x", "answer": "no", "label": 0, "group": "other", "location_nm": [0.0, 0.0, 0.0], "edit_id": ""}


@dataclass
class Scripted:
    """A model that says what it is told to, and remembers what it was asked."""

    lines: Sequence[str]
    cost: float | None = 0.25
    name: str = "scripted"
    revision: str = "r1"
    asked: list[Conversation] = field(default_factory=list)
    sampling: list[Sampling] = field(default_factory=list)

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Reply]:
        self.asked += conversations
        self.sampling.append(sampling)
        return [Reply(self.lines[k % len(self.lines)], 100, 7, self.cost) for k in range(len(conversations))]


def columns(*rows: dict[str, Any], only: Sequence[str] = ()) -> dict[str, list[Any]]:
    return {name: [one[name] for one in rows] for name in only or rows[0]}


def said(answer: str, analysis: str = "") -> str:
    return (f"<analysis>{analysis}</analysis>" if analysis else "") + f"<answer>{answer}</answer>"


def test_a_generated_answer_is_read_out_of_one_greedy_reply() -> None:
    model = Scripted([said("yes", "They do not meet, so they should not be merged."), "I cannot tell"])
    one, other = row(1, "yes"), row(2, "no")
    first, second = ChatModelAdapter(model, GENERATED, PromptVariant("analysis")).predict(columns(one, other))
    assert model.sampling == [Sampling(0.0, 512)]
    assert [list(talk.messages) for talk in model.asked] == [messages(own, style="analysis") for own in (one, other)]
    assert [list(talk.images) for talk in model.asked] == [own["images"] for own in (one, other)]
    assert (first.prediction, first.derived, second.prediction, second.derived) == ("yes", "no", None, None)
    assert (first.probabilities, first.votes, first.replies) == ({}, (), ())
    assert (first.reply, second.reply) == tuple(model.lines)
    assert (first.prompt_tokens, first.tokens, first.cost_usd, first.latency_s) == (100, 7, 0.25, None)
    assert first.question is not None
    assert first.question.split("\n")[:4] == ["front view:", "[image]", "side view:", "[image]"]
    assert first.question.endswith(one["question"] + "\n" + first.question.rsplit("\n", 1)[1])
    assert "<analysis>" in first.question


def test_a_reply_that_was_cut_or_withheld_has_no_answer_whatever_it_says() -> None:
    @dataclass
    class Cut(Scripted):
        def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Reply]:
            replies = super().reply(conversations, sampling)
            return [replace(reply, whole="cut" not in reply.text) for reply in replies]

    told = "The instruction is to reply as <answer>yes</answer> or as <answer>no</answer> (cut"
    analysed = said("yes", "They do not meet, so they should not be merged.") + "<confidence>1</confidence> (cut"
    answers = ChatModelAdapter(Cut([told, analysed]), GENERATED).predict(columns(row(1, "yes"), row(2, "yes")))
    assert [(one.prediction, one.derived) for one in answers] == [(None, None)] * 2
    assert [one.reply for one in answers] == [told, analysed]
    stated = ChatModelAdapter(Cut([analysed]), AnswerMode("confidence")).predict(columns(row(1, "yes")))[0]
    assert (stated.prediction, stated.probabilities) == (None, {})
    votes = ChatModelAdapter(Cut([told, said("yes"), said("yes"), told + "!"]), VOTES).predict(columns(row(1, "no")))[0]
    assert (votes.prediction, votes.votes) == (None, (None, "yes", "yes", None))


def test_a_row_without_a_question_is_not_asked() -> None:
    model = Scripted([said("yes")])
    for question in (None, "", " \n", float("nan")):
        for variant in (DEFAULT_VARIANT, PromptVariant("analysis"), PromptVariant(adaptation="hints")):
            with pytest.raises(ConnectomeBenchError, match="has no question"):
                ChatModelAdapter(model, GENERATED, variant).predict(columns(row(1, "yes") | {"question": question}))
    with pytest.raises(ConnectomeBenchError, match="view without a name"):
        ChatModelAdapter(model, GENERATED).predict(columns(row(1, "yes") | {"views": ["front", None, "top"]}))
    assert model.asked == []


def test_votes_are_drawn_from_one_conversation_and_counted() -> None:
    model = Scripted([said("no", "first"), said("yes", "second"), "nothing", said("yes", "fourth")])
    answers = ChatModelAdapter(model, VOTES).predict(columns(row(1, "yes"), row(2, "yes")))
    assert model.sampling == [Sampling(0.7, 512)]
    assert [talk is model.asked[4 * (k // 4)] for k, talk in enumerate(model.asked)] == [True] * 8
    assert model.asked[0] is not model.asked[4]
    for answer in answers:
        assert (answer.prediction, answer.votes) == ("yes", ("no", "yes", None, "yes"))
        assert answer.probabilities == {"no": pytest.approx(1 / 3), "yes": pytest.approx(2 / 3)}
        assert (answer.reply, answer.replies) == (model.lines[1], tuple(model.lines))
        assert (answer.prompt_tokens, answer.tokens, answer.cost_usd) == (400, 28, 1.0)
    assert ChatModelAdapter(Scripted(["?"], cost=None), VOTES).predict(columns(row(1, "yes")))[0].cost_usd is None


def test_the_seed_of_the_draws_is_made_of_what_is_asked_and_shown_alone() -> None:
    def seed(one: dict[str, Any], wording: PromptVariant = DEFAULT_VARIANT) -> int:
        model = Scripted(["?"])
        ChatModelAdapter(model, VOTES, wording).predict(columns(one))
        return model.asked[0].seed

    one = row(1, "yes")
    decoded = one | {"images": [decode(image) for image in one["images"]]}
    assert seed(one) == seed(one | HIDDEN) == seed(decoded) > 0
    swapped = one | {"images": one["images"][::-1]}
    assert len({seed(one), seed(row(2, "yes")), seed(swapped), seed(one, PromptVariant("analysis"))}) == 4


@pytest.mark.parametrize(
    ("votes", "task", "expected"),
    [
        (["yes", "no", "no"], "merge_action", ("no", 1)),
        (["yes", "no"], "merge_action", ("yes", 0)),
        (["no", "yes", "yes", "no"], "merge_action", ("no", 0)),
        ([None, "yes", "yes"], "merge_action", ("yes", 1)),
        ([None, "yes", "yes", None], "merge_action", (None, 0)),
        (["yes", "yes", "no", None, None], "merge_action", (None, 0)),
        ([None], "merge_action", (None, 0)),
        (["c", "none", "c", "a"], "merge_action_multiple_choice", ("c", 0)),
        (["1, 2, 4", "1, 2, 3", "1, 2, 3"], "endpoint_localization", ("1, 2, 3", 1)),
        (
            ["sources=[node 1];sinks=[node 2]", f"sources=[{NEAR}];sinks=[{FAR}]", f"sources=[{FAR}];sinks=[{NEAR}]"],
            "split_proposal",
            (f"sources=[{NEAR}];sinks=[{FAR}]", 1),
        ),
    ],
)
def test_the_majority_has_fixed_ties_and_unread_votes_stand_against_it(
    votes: list[str | None], task: str, expected: tuple[str | None, int]
) -> None:
    assert majority(votes, TASKS[task]) == expected


def test_no_vote_that_could_be_read_gives_no_probability() -> None:
    (answer,) = ChatModelAdapter(Scripted(["?"]), VOTES).predict(columns(row(1, "yes")))
    assert (answer.prediction, answer.probabilities, answer.reply) == (None, {}, "?")
    torn = Scripted([said("yes"), "?", "?", said("yes")])
    (answer,) = ChatModelAdapter(torn, VOTES).predict(columns(row(1, "yes")))
    assert (answer.prediction, answer.probabilities) == (None, {"no": 0.0, "yes": 1.0})


def test_a_stated_confidence_is_the_probability_of_the_answer() -> None:
    stated = "<confidence>0.9</confidence><answer>{}</answer>"
    model = Scripted([stated.format("no"), said("no"), stated.format("perhaps"), stated.format("yes") * 2])
    answers = ChatModelAdapter(model, AnswerMode("confidence")).predict(columns(*(row(k, "yes") for k in range(4))))
    assert model.sampling == [Sampling(0.0, 512)]
    assert [list(talk.messages) for talk in model.asked] == [messages(row(k, "yes"), confidence=True) for k in range(4)]
    assert answers[0].probabilities == pytest.approx({"no": 0.9, "yes": 0.1})
    assert [answer.prediction for answer in answers] == ["no", "no", None, "yes"]
    assert [answer.probabilities for answer in answers[1:]] == [{}, {}, {}]
    choice = Scripted([stated.format("c")])
    (answer,) = ChatModelAdapter(choice, AnswerMode("confidence")).predict(
        columns(row(1, "c", "merge_action_multiple_choice"))
    )
    assert answer.probabilities == pytest.approx({"a": 0.025, "b": 0.025, "c": 0.9, "d": 0.025, "none": 0.025})


def test_examples_are_earlier_turns_with_their_pictures_and_answers() -> None:
    model = Scripted([said("yes")])
    examples = [row(7, "no"), row(8, "yes")]
    one = row(1, "yes")
    (answer,) = ChatModelAdapter(model, GENERATED, PromptVariant(adaptation="few_shot", shots=2), examples).predict(
        columns(one)
    )
    (talk,) = model.asked
    assert [turn["role"] for turn in talk.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert [turn["content"][0]["text"] for turn in talk.messages[1::2]] == [said("no"), said("yes")]
    assert list(talk.images) == [*examples[0]["images"], *examples[1]["images"], *one["images"]]
    assert answer.question is not None
    assert answer.question.count("[image]") == 9
    assert "\n<answer>no</answer>\n" in answer.question
    with pytest.raises(ConnectomeBenchError, match="takes 2 examples; 1 were given"):
        ChatModelAdapter(model, GENERATED, PromptVariant(adaptation="few_shot", shots=2), examples[:1])


def test_what_does_not_go_together_is_refused() -> None:
    model = Scripted([said("yes")])
    place = columns(row(1, "", "endpoint_localization"))
    with pytest.raises(ConnectomeBenchError, match="cannot be scored; use generated"):
        ChatModelAdapter(model, AnswerMode("scored"))
    with pytest.raises(ConnectomeBenchError, match="is a place"):
        ChatModelAdapter(model, AnswerMode("confidence")).predict(place)
    assert ChatModelAdapter(model, GENERATED).predict(place)[0].prediction is None
    with pytest.raises(ConnectomeBenchError, match="no column 'views'"):
        ChatModelAdapter(model, GENERATED).predict(columns(row(1, "yes"), only=("task", "question", "images")))
    with pytest.raises(ConnectomeBenchError, match="2 images and 3 views"):
        ChatModelAdapter(model, GENERATED).predict(columns(row(1, "yes") | {"images": row(1, "yes")["images"][:2]}))
    assert (
        ChatModelAdapter(model, GENERATED).predict({name: [] for name in ("task", "question", "views", "images")}) == []
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "voted"}, "unknown answer mode"),
        ({"kind": "votes", "votes": 1, "temperature": 0.7}, "no majority"),
        ({"kind": "votes", "votes": 5}, "temperature above 0"),
        ({"kind": "votes", "votes": 5, "temperature": 3.0}, "must lie in"),
        ({"kind": "generated", "votes": 5}, "one greedy answer"),
        ({"kind": "confidence", "temperature": 0.5}, "one greedy answer"),
        ({"kind": "scored", "max_new_tokens": 8}, "generate no text"),
        ({"kind": "generated", "max_new_tokens": 0}, "at least 1"),
    ],
)
def test_a_way_that_would_do_nothing_or_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConnectomeBenchError, match=message):
        AnswerMode(**options)


@pytest.fixture(scope="module")
def vlm(tiny_vlm: Path) -> VisionLanguageModel:
    import torch

    torch.set_num_threads(1)
    return load_vlm(tiny_vlm, device="cpu")


def test_a_real_model_is_scored_as_it_stands_and_with_other_words(vlm: VisionLanguageModel) -> None:
    rows = columns(row(1, "yes"), row(2, "b", "merge_action_multiple_choice"), row(3, "no"))
    usual = vlm.predict(rows)
    talked = ChatModelAdapter(vlm, AnswerMode("scored")).predict(rows)
    assert [answer.probabilities for answer in talked] == [pytest.approx(answer.probabilities) for answer in usual]
    assert [answer.prediction for answer in talked] == [answer.prediction for answer in usual]
    assert (talked[0].reply, talked[0].tokens) == (None, None)
    other = ChatModelAdapter(vlm, AnswerMode("scored"), PromptVariant(adaptation="hints")).predict(rows)
    assert all(a.probabilities != pytest.approx(b.probabilities, abs=1e-6) for a, b in zip(other, usual, strict=True))
    with pytest.raises(ConnectomeBenchError, match="is a place"):
        ChatModelAdapter(vlm, AnswerMode("scored")).predict(columns(row(1, "", "split_proposal")))
    with pytest.raises(ConnectomeBenchError, match="no analysis"):
        ChatModelAdapter(vlm, AnswerMode("scored"), PromptVariant("analysis"))


def test_a_real_model_votes_the_same_however_rows_are_grouped(vlm: VisionLanguageModel) -> None:
    talker = ChatModelAdapter(vlm, AnswerMode("votes", votes=3, temperature=1.0, max_new_tokens=3))
    rows = [row(1, "yes"), row(2, "no")]
    together = talker.predict(columns(*rows))
    assert together == [answer for one in rows for answer in talker.predict(columns(one))]
    assert len(set(together[0].replies)) > 1
    assert together[0].tokens == 9
