"""Rows as episodes that a language model plays while it is trained with TRL's GRPOTrainer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.environment.samples import Sample, Samples, open_samples

LEAST_TOKENS = 256
"""Below this hardly an episode comes to its answer: a view takes about 60 tokens, and its call about 30."""


def open_training_samples(dataset: str, species: Sequence[str], sample_ids: Collection[str]) -> Samples:
    """Open the neighbourhoods of training rows.

    Parameters
    ----------
    dataset
        Folder of the dataset, ``OUT/TASK``.
    species
        Species config; one.
    sample_ids
        Of the rows that are trained on.

    Raises
    ------
    ConnectomeBenchError
        If it is no folder, there are several species, or rows have no neighbourhood.
    """
    if len(species) != 1:
        raise ConnectomeBenchError(f"an environment holds one species, not {len(species)}; name one")
    folder = Path(dataset)
    if not folder.is_dir():
        raise ConnectomeBenchError(
            f"{dataset} is no folder, and an environment needs the neighbourhoods beside its rows; give --dataset "
            "OUT/TASK, written with `connectomebench build --neighbourhoods train`"
        )
    samples = open_samples(folder, species[0], "train")
    if missing := [one for one in sample_ids if one not in samples]:
        raise ConnectomeBenchError(
            f"{len(missing)} of {len(sample_ids)} training rows of {folder} have no neighbourhood; delete "
            f"{species[0]}/neighbourhoods-train-* there and build with --neighbourhoods train"
        )
    return samples


def tool_prompt(sample: Sample) -> list[dict[str, Any]]:
    r"""Build the prompt of an episode: one user turn without pictures, to which its reset adds the first view.

    Examples
    --------
    >>> from connectomebench.environment.samples import Sample
    >>> from connectomebench.environment.training import tool_prompt
    >>> sample = Sample("s", "One neuron?", "yes", "g", ("no", "yes"), "merge_action", False)
    >>> tool_prompt(sample)[0]["content"][0]["text"]
    'One neuron?\nAnswer with the tool `answer`; its label is one of: no, yes.'
    """
    text = f"{sample.question}\nAnswer with the tool `answer`; its label is one of: {', '.join(sample.labels)}."
    return [{"role": "user", "content": [{"type": "text", "text": text}]}]


def episodes(batch: Mapping[str, Sequence[Any]], samples: Samples) -> dict[str, list[Any]]:
    """Turn stored rows into the columns of episodes: ``prompt`` and ``sample_id``.

    Parameters
    ----------
    batch
        Columns of stored rows, ``sample_id`` among them.
    samples
        The rows with their neighbourhoods.
    """
    ids = [str(one) for one in batch["sample_id"]]
    return {"prompt": [tool_prompt(samples.rows[samples.number(one)]) for one in ids], "sample_id": ids}


def check_tools(processor: Any, base: str) -> None:
    """Check that a base can call tools.

    Parameters
    ----------
    processor
        Of the base.
    base
        Its name, for the message.

    Raises
    ------
    ConnectomeBenchError
        If its chat template cannot write calls and their results, or TRL does not know how to read its calls.
    """
    from trl.chat_template_utils import add_response_schema, supports_tool_calling

    problem = "has no calls of tools"
    if supports_tool_calling(processor):
        if getattr(processor.tokenizer, "response_template", None) is not None:
            return
        try:
            add_response_schema(processor)
        except ValueError:
            problem = "is one whose calls of tools TRL cannot read"
        else:
            return
    raise ConnectomeBenchError(f"the chat template of {base} {problem}; take a base such as Qwen/Qwen3-VL-8B-Instruct")
