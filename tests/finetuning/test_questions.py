"""What a model is asked in reinforcement."""

from __future__ import annotations

from stored_rows import row

from connectomebench.finetuning.questions import questions
from connectomebench.finetuning.rewards import REWARD_COLUMNS
from connectomebench.models.prompt import messages


def test_confidence_is_asked_for_where_it_is_paid():
    stored = [row(1, "yes"), row(2, "no")]
    batch = {name: [one[name] for one in stored] for name in stored[0]}
    plain, asked = questions(batch, confidence=False), questions(batch, confidence=True)
    assert plain.keys() == asked.keys() == {"prompt", "images", *REWARD_COLUMNS}
    assert plain["answer"] == ["yes", "no"] and [len(images) for images in plain["images"]] == [3, 3]
    for told in (plain, asked):
        for turns, images in zip(told["prompt"], told["images"], strict=True):
            assert sum(part["type"] == "image" for part in turns[-1]["content"]) == len(images)
    analysed = questions(batch, confidence=False, style="analysis")
    assert analysed["prompt"] == [messages(one, style="analysis") for one in stored] != plain["prompt"]
    assert "<confidence>" not in str(plain["prompt"]) and str(asked["prompt"]).count("<confidence>") == 2
