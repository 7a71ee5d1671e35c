"""Questions of reinforcement: prompts, pictures, and what the rewards read.

They stand in a module that can be imported, since datasets hashes a function of a script with all that the script
names, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectomebench.finetuning.completions import ANSWER
from connectomebench.finetuning.rewards import REWARD_COLUMNS
from connectomebench.models.images import decode
from connectomebench.models.prompt import AnswerStyle, messages


def questions(
    batch: Mapping[str, Sequence[Any]], confidence: bool, style: AnswerStyle = ANSWER
) -> dict[str, list[Any]]:
    """Build prompts from stored rows, with the columns that rewards read; images are decoded here.

    Parameters
    ----------
    batch
        Column -> its values, one a row.
    confidence
        Ask for a confidence as well.
    style
        Of the answer that is asked for.

    Returns
    -------
    dict
        ``prompt`` (turns of each row), ``images`` (PIL images of each row) and the columns of rewards.
    """
    rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    return {
        "prompt": [messages(row, style=style, confidence=confidence) for row in rows],
        "images": [[decode(image) for image in row["images"]] for row in rows],
        **{name: list(batch[name]) for name in REWARD_COLUMNS},
    }
