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
    from connectomebench.models.endpoint_settings import EndpointConfig

_PRICES = ("usd_per_million_prompt", "usd_per_million_reply")


class _Ablation(argparse.Action):
    """Keep the name of an ablation; ``list`` prints all of them at once, without the options that a run needs."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if values == "list":
            from connectomebench.evaluation.ablations import ABLATIONS

            print("\n".join(f"{name}: {words}" for name, words in ABLATIONS.items()))
            parser.exit()
        setattr(namespace, self.dest, values)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("evaluate", help="evaluate a model on a partition", description=_run.__doc__)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="folder, or ORG/NAME on the Hub; with --endpoint its name there; person to answer yourself",
    )
    model.add_argument("--model-revision", metavar="REV", help="branch, tag or commit (default: main)")
    model.add_argument(
        "--name",
        help="name of the model in the records (default: ORG/NAME of a model from the Hub, else the model's own name)",
    )
    model.add_argument("--base", help="adapters: base model, if it cannot be found by its name")
    model.add_argument(
        "--engine",
        choices=("transformers", "vllm", "vllm-head"),
        default="transformers",
        help="inference engine; vllm-head only gives the probabilities of yes and no, in one pass",
    )
    model.add_argument(
        "--batch-size", type=int, metavar="N", help="rows a language model processes at once (default: 4)"
    )
    model.add_argument(
        "--endpoint", metavar="URL", help="OpenAI-compatible server, for example http://127.0.0.1:8000/v1"
    )
    model.add_argument(
        "--key-variable", metavar="NAME", help="environment variable with its API key (default: OPENAI_API_KEY)"
    )
    model.add_argument("--timeout", type=float, metavar="S", help="seconds to wait for a reply (default: 120)")
    model.add_argument("--retries", type=int, help="retries after a server failure (default: 5)")
    model.add_argument(
        "--extra-body",
        metavar="JSON",
        help='extra fields of each request: {"reasoning_effort": "low"}',
    )
    model.add_argument("--fallback-model", metavar="MODEL", help="second model, for rows below --min-confidence")
    model.add_argument("--min-confidence", type=float, metavar="P", help="with --fallback-model (default: 0.9)")
    model.add_argument("--rater", metavar="NAME", help="with person: name in the records")

    data = parser.add_argument_group("data")
    data.add_argument("--dataset", required=True, metavar="DATASET", help="folder, or ORG/NAME on the Hub")
    data.add_argument("--dataset-revision", metavar="REV", help="branch, tag or commit (default: main)")
    data.add_argument("--species", required=True, help="config of the dataset")
    data.add_argument("--partition", default="test", help="train, validation or test (default)")
    data.add_argument("--task", help="task, for public datasets with several")
    data.add_argument("--max-samples", type=int, metavar="N", help="only N rows, balanced over the answers")
    data.add_argument(
        "--ablation", metavar="A", action=_Ablation, help="change the input; --ablation list alone shows the choices"
    )
    data.add_argument("--seed", type=int, default=0, help="seed of subsample, examples and shuffled labels")

    answering = parser.add_argument_group("prompt and answer of a language model")
    answering.add_argument(
        "--answer",
        choices=("scored", "generated", "confidence"),
        help="probabilities of the allowed answers, a generated reply, or a reply with a stated confidence "
        "(default: scored if possible, else generated; adapters: as they were trained)",
    )
    answering.add_argument("--votes", type=int, default=1, metavar="N", help="sample N replies and take the majority")
    answering.add_argument("--temperature", type=float, help="sampling temperature of votes (default: 0.7)")
    answering.add_argument(
        "--max-new-tokens", type=int, default=MAX_NEW_TOKENS, help="maximum reply length (default: 512)"
    )
    answering.add_argument(
        "--style",
        choices=("answer_only", "analysis", "simple"),
        help="ask for the answer alone (default), for an analysis before it, or simply what is seen",
    )
    answering.add_argument(
        "--prompt",
        choices=("none", "conservative", "context", "hints", "few_shot"),
        default="none",
        help="adapt the prompt without training",
    )
    answering.add_argument("--shots", type=int, help="examples for few_shot, from the training partition (default: 4)")

    cost = parser.add_argument_group("run and cost")
    cost.add_argument("--concurrency", type=int, help="concurrent requests to an endpoint (default: 1)")
    cost.add_argument("--max-usd", type=float, help="stop before spending more than this")
    cost.add_argument("--usd-per-million-prompt", type=float, help="price of a million prompt tokens")
    cost.add_argument("--usd-per-million-reply", type=float, help="price of a million generated tokens")
    cost.add_argument("--overwrite", action="store_true", help="evaluate again even if records exist")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of result records (default: results)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Evaluate a model on a partition and write one record per row: OUT/MODEL/TASK/SPECIES/PARTITION.parquet."""
    _check_together(arguments)
    if arguments.model == "person":
        _evaluate_person(arguments)
    else:
        _evaluate_model(arguments)


def _check_together(arguments: argparse.Namespace) -> None:
    """Raise on options that would have no effect."""
    needs = {
        "--endpoint": (
            arguments.endpoint is not None,
            ("key_variable", "timeout", "retries", "extra_body", "concurrency", *_PRICES),
        ),
        "--fallback-model": (arguments.fallback_model is not None, ("min_confidence",)),
        "--votes": (arguments.votes > 1, ("temperature",)),
        "--prompt few_shot": (arguments.prompt == "few_shot", ("shots",)),
        "--model person": (arguments.model == "person", ("rater",)),
    }
    for needed, (is_there, names) in needs.items():
        for name in names:
            if getattr(arguments, name) is not None and not is_there:
                raise ConnectomeBenchError(
                    f"--{name.replace('_', '-')} has no effect without {needed}; give both or neither"
                )
    if arguments.votes < 1:
        raise ConnectomeBenchError(f"--votes is {arguments.votes}; it must be at least 1")


def _or_default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _evaluate_model(arguments: argparse.Namespace) -> None:
    from connectomebench.evaluation.evaluator import BASE_MODEL, CascadeRule, EvalData, PromptConfig, evaluate
    from connectomebench.evaluation.model_spec import ModelSpec
    from connectomebench.evaluation.runner import RunConfig

    first = ModelSpec(
        arguments.model,
        arguments.model_revision,
        arguments.base,
        engine=arguments.engine,
        without_adapter=arguments.ablation == BASE_MODEL,
        batch_size=arguments.batch_size,
        name=arguments.name,
    )
    cascade_rule = None
    # in a cascade, the endpoint, engine and batch options apply to the fallback model
    if arguments.fallback_model is not None:
        endpoint = _endpoint(arguments, arguments.fallback_model)
        second = ModelSpec(
            arguments.fallback_model, endpoint=endpoint, engine=arguments.engine, batch_size=arguments.batch_size
        )
        cascade_rule, first = (
            CascadeRule(second, _or_default(arguments.min_confidence, 0.9)),
            replace(first, engine="transformers", batch_size=None),
        )
    else:
        first = replace(first, endpoint=_endpoint(arguments, arguments.model))
    data = EvalData(
        arguments.dataset,
        arguments.species,
        arguments.partition,
        arguments.task,
        arguments.dataset_revision,
        arguments.max_samples,
        arguments.ablation,
        arguments.seed,
    )
    run_options = RunConfig(workers=_or_default(arguments.concurrency, 1), max_usd=arguments.max_usd)
    answering = PromptConfig(_answer_mode(arguments), _prompt_variant(arguments), trained_style=arguments.style is None)
    evaluate(
        first,
        data,
        arguments.out,
        prompt_options=answering,
        run_options=run_options,
        cascade_rule=cascade_rule,
        overwrite=arguments.overwrite,
    )


def _endpoint(arguments: argparse.Namespace, model: str) -> EndpointConfig | None:
    if arguments.endpoint is None:
        return None
    from connectomebench.models.endpoint_settings import EndpointConfig

    return EndpointConfig(
        url=arguments.endpoint,
        model=model,
        key_variable=_or_default(arguments.key_variable, "OPENAI_API_KEY"),
        timeout_s=_or_default(arguments.timeout, 120.0),
        retries=_or_default(arguments.retries, 5),
        usd_per_million_prompt=arguments.usd_per_million_prompt,
        usd_per_million_reply=arguments.usd_per_million_reply,
        extra_body=_extra_body(_or_default(arguments.extra_body, "{}")),
    )


def _extra_body(text: str) -> dict[str, Any]:
    try:
        more = json.loads(text)
    except (ValueError, RecursionError):
        more = None
    if not isinstance(more, dict):
        raise ConnectomeBenchError(f"--extra-body takes a JSON object, not {text[:60]!r}")
    return more


def _answer_mode(arguments: argparse.Namespace) -> AnswerMode | None:
    from connectomebench.evaluation.answer_mode import AnswerMode

    if arguments.votes > 1:
        if arguments.answer not in (None, "generated"):
            raise ConnectomeBenchError("votes are sampled generated replies; leave --answer out")
        return AnswerMode("votes", arguments.votes, _or_default(arguments.temperature, 0.7), arguments.max_new_tokens)
    if arguments.answer is None and arguments.max_new_tokens == MAX_NEW_TOKENS:
        return None
    return AnswerMode(arguments.answer or "generated", max_new_tokens=arguments.max_new_tokens)


def _prompt_variant(arguments: argparse.Namespace) -> PromptVariant | None:
    from connectomebench.evaluation.prompt_variants import PromptVariant

    if arguments.style is None and arguments.prompt == "none":
        return None
    return PromptVariant(
        arguments.style or "answer_only", arguments.prompt, _or_default(arguments.shots, 4), arguments.seed
    )


def _evaluate_person(arguments: argparse.Namespace) -> None:
    from connectomebench.dataset.loading import load_rows
    from connectomebench.evaluation.console_summary import simulated_note
    from connectomebench.human_eval.rating import Rater, rate, summary_line

    if arguments.rater is None:
        raise ConnectomeBenchError("name yourself for the records: --rater NAME")
    others = (
        "name",
        "ablation",
        "fallback_model",
        "endpoint",
        "base",
        "model_revision",
        "batch_size",
        "max_usd",
        "overwrite",
    )
    if any(getattr(arguments, name) for name in others) or _answer_mode(arguments) or _prompt_variant(arguments):
        raise ConnectomeBenchError("a person sees the rows unchanged; leave out the options for models")
    rows = load_rows(
        arguments.dataset, arguments.species, arguments.partition, arguments.dataset_revision, task=arguments.task
    )
    path = rate(rows, Rater(arguments.rater, arguments.max_samples, arguments.seed), arguments.out)
    print("\n".join((summary_line(path), *simulated_note(rows.data), str(path))))
