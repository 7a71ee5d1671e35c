"""``connectomebench evaluate``."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.chat import MAX_NEW_TOKENS

if TYPE_CHECKING:
    from connectomebench.evaluation.answer_mode import AnswerMode
    from connectomebench.evaluation.prompt_variants import PromptVariant
    from connectomebench.models.endpoint_settings import EndpointSettings

_PRICES = ("usd_per_million_prompt", "usd_per_million_reply")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("evaluate", help="let a model answer a partition", description=_run.__doc__)
    asked = parser.add_argument_group("who is asked")
    asked.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="folder, or ORG/NAME on the Hub; with --endpoint the name it has there; or person, for yourself",
    )
    asked.add_argument("--model-revision", metavar="REV", help="branch, tag or commit (default: main)")
    asked.add_argument("--base", help="adapters: the model it was trained on, where it cannot be found by its name")
    asked.add_argument("--engine", choices=("transformers", "vllm"), default="transformers", help="what computes it")
    asked.add_argument(
        "--batch-size", type=int, metavar="N", help="rows that a language model computes together (default: 4)"
    )
    asked.add_argument(
        "--endpoint", metavar="URL", help="OpenAI-compatible server, for example http://127.0.0.1:8000/v1"
    )
    asked.add_argument(
        "--key-variable", metavar="NAME", help="environment variable that holds its key (default: OPENAI_API_KEY)"
    )
    asked.add_argument("--timeout", type=float, metavar="S", help="seconds to wait for a reply (default: 120)")
    asked.add_argument("--retries", type=int, help="how often to ask again where the server fails (default: 5)")
    asked.add_argument(
        "--extra-body",
        metavar="JSON",
        help='more for each request: {"reasoning_effort": "low"}',
    )
    asked.add_argument("--then", metavar="MODEL", help="a second model for rows of which the first is not sure")
    asked.add_argument("--below", type=float, help="with --then: how sure is not sure (default: 0.9)")
    asked.add_argument("--rater", metavar="NAME", help="with person: a name for the records")

    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--dataset", required=True, metavar="DATASET", help="folder, or ORG/NAME on the Hub")
    shown.add_argument("--dataset-revision", metavar="REV", help="branch, tag or commit (default: main)")
    shown.add_argument("--species", required=True, help="config of the dataset")
    shown.add_argument("--partition", default="test", help="train, validation or test (default)")
    shown.add_argument("--task", help="task to ask of a public dataset that holds several")
    shown.add_argument("--sample", type=int, metavar="N", help="only N rows, balanced over the answers")
    shown.add_argument("--ablation", metavar="A", help="take something away; --ablation list tells what there is")
    shown.add_argument("--seed", type=int, default=0, help="of what is drawn: sample, examples, shuffled labels")

    how = parser.add_argument_group("how a language model answers")
    how.add_argument(
        "--answer",
        choices=("scored", "generated", "confidence"),
        help="probabilities of the allowed answers, a reply in words, or one with a stated confidence (default: scored "
        "where it can be computed, else generated; adapters: as they were trained)",
    )
    how.add_argument("--votes", type=int, default=1, metavar="N", help="draw N replies and take the majority")
    how.add_argument("--temperature", type=float, help="of votes (default: 0.7)")
    how.add_argument(
        "--max-new-tokens", type=int, default=MAX_NEW_TOKENS, help="where replies are cut off (default: 512)"
    )
    how.add_argument(
        "--style",
        choices=("answer_only", "analysis", "simple"),
        help="ask for the answer alone (default), for an analysis before it, or plainly for what is seen",
    )
    how.add_argument(
        "--prompt",
        choices=("none", "conservative", "context", "hints", "few_shot"),
        default="none",
        help="adapt the prompt without training",
    )
    how.add_argument("--shots", type=int, help="examples for few_shot, from the training partition (default: 4)")

    cost = parser.add_argument_group("effort and cost")
    cost.add_argument("--concurrency", type=int, help="rows under way at a time at an endpoint (default: 1)")
    cost.add_argument("--max-usd", type=float, help="stop before more than this is spent")
    cost.add_argument("--usd-per-million-prompt", type=float, help="price of a million tokens that are read")
    cost.add_argument("--usd-per-million-reply", type=float, help="price of a million tokens that are written")
    cost.add_argument("--again", action="store_true", help="ask anew where records are there already")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of result records (default: results)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Let a model answer a partition, and keep one record a row: OUT/MODEL/TASK/SPECIES/PARTITION.parquet."""
    from connectomebench.evaluation.ablations import ABLATIONS

    if arguments.ablation == "list":
        print("\n".join(f"{name}: {words}" for name, words in ABLATIONS.items()))
        return
    _check_together(arguments)
    if arguments.model == "person":
        _ask_a_person(arguments)
    else:
        _ask_a_model(arguments)


def _check_together(arguments: argparse.Namespace) -> None:
    """Refuse options that would do nothing."""
    needs = {
        "--endpoint": (
            arguments.endpoint is not None,
            ("key_variable", "timeout", "retries", "extra_body", "concurrency", *_PRICES),
        ),
        "--then": (arguments.then is not None, ("below",)),
        "--votes": (arguments.votes > 1, ("temperature",)),
        "--prompt few_shot": (arguments.prompt == "few_shot", ("shots",)),
        "--model person": (arguments.model == "person", ("rater",)),
    }
    for needed, (is_there, names) in needs.items():
        for name in names:
            if getattr(arguments, name) is not None and not is_there:
                raise ConnectomeBenchError(
                    f"--{name.replace('_', '-')} does nothing without {needed}; give both or none"
                )
    if arguments.votes < 1:
        raise ConnectomeBenchError(f"there are {arguments.votes} votes; draw at least 1")


def _given(value: Any, usual: Any) -> Any:
    return usual if value is None else value


def _ask_a_model(arguments: argparse.Namespace) -> None:
    from connectomebench.evaluation.evaluator import BASE_MODEL, CascadeRule, EvalData, PromptOptions, evaluate
    from connectomebench.evaluation.model_spec import ModelSpec
    from connectomebench.evaluation.runner import RunOptions

    first = ModelSpec(
        arguments.model,
        arguments.model_revision,
        arguments.base,
        engine=arguments.engine,
        without_adapter=arguments.ablation == BASE_MODEL,
        batch_size=arguments.batch_size,
    )
    doubt = None
    # with two models, all that is said of endpoint, engine and batches is about the second, dearer one
    if arguments.then is not None:
        endpoint = _endpoint(arguments, arguments.then)
        second = ModelSpec(arguments.then, endpoint=endpoint, engine=arguments.engine, batch_size=arguments.batch_size)
        doubt, first = (
            CascadeRule(second, _given(arguments.below, 0.9)),
            replace(first, engine="transformers", batch_size=None),
        )
    else:
        first = replace(first, endpoint=_endpoint(arguments, arguments.model))
    shown = EvalData(
        arguments.dataset,
        arguments.species,
        arguments.partition,
        arguments.task,
        arguments.dataset_revision,
        arguments.sample,
        arguments.ablation,
        arguments.seed,
    )
    effort = RunOptions(workers=_given(arguments.concurrency, 1), max_usd=arguments.max_usd)
    how = PromptOptions(_way(arguments), _wording(arguments), trained_style=arguments.style is None)
    evaluate(first, shown, arguments.out, how=how, effort=effort, doubt=doubt, again=arguments.again)


def _endpoint(arguments: argparse.Namespace, model: str) -> EndpointSettings | None:
    if arguments.endpoint is None:
        return None
    from connectomebench.models.endpoint_settings import EndpointSettings

    return EndpointSettings(
        url=arguments.endpoint,
        model=model,
        key_variable=_given(arguments.key_variable, "OPENAI_API_KEY"),
        timeout_s=_given(arguments.timeout, 120.0),
        retries=_given(arguments.retries, 5),
        usd_per_million_prompt=arguments.usd_per_million_prompt,
        usd_per_million_reply=arguments.usd_per_million_reply,
        extra_body=_extra_body(_given(arguments.extra_body, "{}")),
    )


def _extra_body(text: str) -> dict[str, Any]:
    try:
        more = json.loads(text)
    except ValueError:
        more = None
    if not isinstance(more, dict):
        raise ConnectomeBenchError(f"--extra-body takes a JSON object, not {text[:60]!r}")
    return more


def _way(arguments: argparse.Namespace) -> AnswerMode | None:
    from connectomebench.evaluation.answer_mode import AnswerMode

    if arguments.votes > 1:
        if arguments.answer not in (None, "generated"):
            raise ConnectomeBenchError("votes are drawn replies in words; leave --answer out")
        return AnswerMode("votes", arguments.votes, _given(arguments.temperature, 0.7), arguments.max_new_tokens)
    if arguments.answer is None and arguments.max_new_tokens == MAX_NEW_TOKENS:
        return None
    return AnswerMode(arguments.answer or "generated", max_new_tokens=arguments.max_new_tokens)


def _wording(arguments: argparse.Namespace) -> PromptVariant | None:
    from connectomebench.evaluation.prompt_variants import PromptVariant

    if arguments.style is None and arguments.prompt == "none":
        return None
    return PromptVariant(arguments.style or "answer_only", arguments.prompt, _given(arguments.shots, 4), arguments.seed)


def _ask_a_person(arguments: argparse.Namespace) -> None:
    from connectomebench.dataset.loading import load_rows
    from connectomebench.evaluation.console_summary import simulated_note
    from connectomebench.human_eval.rating import Rater, rate, summary_line

    if arguments.rater is None:
        raise ConnectomeBenchError("name the person for the records: --rater NAME")
    others = ("ablation", "then", "endpoint", "base", "model_revision", "batch_size", "max_usd", "again")
    if any(getattr(arguments, name) for name in others) or _way(arguments) or _wording(arguments):
        raise ConnectomeBenchError("a person is shown the rows as they are; leave out what is about models")
    rows = load_rows(
        arguments.dataset, arguments.species, arguments.partition, arguments.dataset_revision, task=arguments.task
    )
    path = rate(rows, Rater(arguments.rater, arguments.sample, arguments.seed), arguments.out)
    print("\n".join((summary_line(path), *simulated_note(rows.data), str(path))))
