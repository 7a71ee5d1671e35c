"""What a chat template puts before a reply: nothing, or room for thoughts."""

from __future__ import annotations

from typing import Any

from connectomebench.core.errors import ConnectomeBenchError

_QUESTION, _REPLY = "Is this a question?", "<answer>yes</answer>"
_OPEN, _CLOSE = "<think>", "</think>"


def opens_thoughts(processor: Any) -> bool:
    """Check whether replies begin with thoughts, so that an answer never follows the prompt at once.

    Parameters
    ----------
    processor
        With a chat template.

    Returns
    -------
    bool
        True if the template opens ``<think>`` at the end of a prompt, or puts it before the reply of a finished turn.
    """
    prompt, whole = _rendered(processor)
    before_reply = whole.split(_REPLY)[0].split(_QUESTION)[-1]
    return _OPEN in prompt.split(_QUESTION)[-1].split(_CLOSE)[-1] or _OPEN in before_reply


def check_trainable_template(processor: Any, name: str) -> None:
    """Raise unless a template puts the reply right after the prompt.

    Otherwise an adapter would train on other prompts than the ones it is asked with later.

    Parameters
    ----------
    processor
        With a chat template.
    name
        Of the model, for the message.

    Raises
    ------
    ConnectomeBenchError
        If it puts anything between, such as thoughts.
    """
    if opens_thoughts(processor):
        raise ConnectomeBenchError(
            f"the chat template of {name} opens {_OPEN} before a reply, so answers would be trained on other prompts "
            "than they are asked with; choose an Instruct model"
        )
    prompt, whole = _rendered(processor)
    if not whole.startswith(prompt + _REPLY):
        raise ConnectomeBenchError(
            f"the chat template of {name} does not put the reply right after the prompt, so it cannot be trained; "
            "choose a Qwen3-VL Instruct model"
        )


def _rendered(processor: Any) -> tuple[str, str]:
    """Return a prompt up to the reply, and the same conversation with its reply."""
    asked = {"role": "user", "content": [{"type": "text", "text": _QUESTION}]}
    replied = {"role": "assistant", "content": [{"type": "text", "text": _REPLY}]}
    prompt = processor.apply_chat_template([asked], tokenize=False, add_generation_prompt=True)
    return prompt, processor.apply_chat_template([asked, replied], tokenize=False)
