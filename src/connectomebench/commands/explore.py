"""``connectomebench explore``."""

from __future__ import annotations

import argparse
from pathlib import Path

_POLICIES = ("random", "fixed", "all", "greedy", "agent")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("explore", help="look around at places before answering", description=_run.__doc__)
    parser.add_argument("dataset", type=Path, help="OUT/TASK, built with --neighbourhoods PARTITION")
    parser.add_argument("--species", required=True, help="species config")
    parser.add_argument("--partition", default="test", help="train, validation or test (default)")
    parser.add_argument("--model", help="trained model of the task, for fixed, all and greedy")
    parser.add_argument("--url", help="for agent: base URL of an OpenAI-compatible server")
    parser.add_argument("--served-model", help="for agent: name of the model on the server")
    parser.add_argument(
        "--policy", action="append", choices=_POLICIES, help="who looks (may be repeated; default: all that can)"
    )
    parser.add_argument("--out", type=Path, help="folder for episodes.jsonl and summary.json")
    parser.add_argument("--pixels", type=int, default=128, help="edge of a picture (default: 128)")
    parser.add_argument("--view-price", type=float, default=0.01, help="of a view of meshes (default: 0.01)")
    parser.add_argument("--slice-price", type=float, default=0.02, help="of a slice of image data (default: 0.02)")
    parser.add_argument("--max-views", type=int, default=40, help="most views an episode (default: 40)")
    parser.add_argument("--unsure-below", type=float, default=0.8, help="P that counts as unsure (default: 0.8)")
    parser.add_argument("--seed", type=int, default=0, help="of the random policy")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play recorded episodes again and compare them")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    """Let policies look around at the places of a dataset, each view at its price, and compare them with intervals."""
    import json

    from connectomebench.core.errors import ConnectomeBenchError
    from connectomebench.core.files import write_json
    from connectomebench.environment.episode import EpisodeConfig
    from connectomebench.environment.measure import as_text, explore
    from connectomebench.environment.policies import ChatAgent, ModelPolicy, Policy, RandomPolicy
    from connectomebench.environment.recording import read_episodes, replay, write_episodes
    from connectomebench.environment.samples import open_samples

    samples = open_samples(arguments.dataset, arguments.species, arguments.partition)
    if arguments.replay is not None:
        played = [replay(one, samples) for one in read_episodes(arguments.replay)]
        print(f"{len(played)} episodes came out the same, pictures to the byte")
        return
    wanted = arguments.policy or [
        "random",
        *(["fixed", "all", "greedy"] if arguments.model else []),
        *(["agent"] if arguments.url else []),
    ]
    if not arguments.model and {"fixed", "all", "greedy"} & set(wanted):
        raise ConnectomeBenchError("fixed, all and greedy ask a trained model; name it (--model)")
    if "agent" in wanted and not (arguments.url and arguments.served_model):
        raise ConnectomeBenchError("agent needs a server and a model on it (--url, --served-model)")
    config = EpisodeConfig(
        pixels=arguments.pixels,
        view_price=arguments.view_price,
        slice_price=arguments.slice_price,
        max_views=arguments.max_views,
    )
    policies: list[Policy] = []
    if "random" in wanted:
        policies.append(RandomPolicy(arguments.seed))
    if arguments.model:
        from connectomebench.models.registry import load_model

        model = load_model(arguments.model)
        ways = {"fixed": "never", "all": "always", "greedy": "greedy"}
        policies += [ModelPolicy(model, way) for name, way in ways.items() if name in wanted]
    if "agent" in wanted:
        from connectomebench.models.endpoint import open_endpoint
        from connectomebench.models.endpoint_settings import EndpointConfig

        policies.append(ChatAgent(open_endpoint(EndpointConfig(arguments.url, arguments.served_model))))
    found = explore(samples, policies, config, arguments.unsure_below)
    if arguments.out is not None:
        write_episodes(arguments.out / "episodes.jsonl", found.episodes)
        write_json(arguments.out / "summary.json", found.summary())
    print(json.dumps(found.summary(), indent=2) if arguments.json else as_text(found))
