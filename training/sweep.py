r"""Train models on growing numbers of samples with several seeds, and fit learning curves.

    python training/sweep.py --dataset quickstart-out/merge_action --species fly --models probe trivial \
        --encoder efficientnet_lite0 --n_sizes 6 --seeds 3 --out sweep-out

Every run leaves result records (OUT/results/MODEL/TASK/SPECIES/test@trainN-seedS.parquet); the same command resumes a
sweep that was stopped. The script prints JSON: the points, the power law and how many samples reach the level of
people, with 95% intervals over test groups and seeds; OUT/learning-curve.png shows it. Several runs at once:
--scheduler local:4.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import extras_named
from connectomebench.evaluation.sweep import SweepConfig


@dataclass
class SweepArguments:
    """What is trained on what; see connectomebench.evaluation.sweep.SweepConfig."""

    dataset: str = field(metadata={"help": "Dataset folder or Hub id of one task."})
    species: str = field(default="fly", metadata={"help": "Config of the dataset."})
    task: str | None = field(default=None, metadata={"help": "Task to ask of a public dataset that holds several."})
    revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    models: list[str] = field(
        default_factory=lambda: list(SweepConfig.models), metadata={"help": "probe, trivial, grey, image_classifier."}
    )
    sizes: list[int] | None = field(default=None, metadata={"help": "Numbers of training samples."})
    n_sizes: int = field(default=SweepConfig.n_sizes, metadata={"help": "How many, where they are not given."})
    seeds: int | None = field(default=None, metadata={"help": "Runs of a size; 10, of image classifiers 3."})
    encoder: str = field(default=SweepConfig.encoder, metadata={"help": "Of the probe: Hub id, folder or name."})
    encoder_revision: str | None = field(default=None, metadata={"help": "Commit of the Hub id; newest by default."})
    backbone: str = field(default=SweepConfig.backbone, metadata={"help": "Of the image classifier."})
    init: str = field(default=SweepConfig.init, metadata={"help": "pretrained, or random."})
    epochs: int = field(default=SweepConfig.epochs, metadata={"help": "Most epochs of the image classifier."})
    input_px: int | None = field(default=None, metadata={"help": "Edge of the classifier's images."})


@dataclass
class ScriptArguments:
    """Where runs are made, and what level is to be reached."""

    out: Path = field(default=Path("sweep-out"), metadata={"help": "Folder of records, vectors and figure."})
    scheduler: str = field(default="none", metadata={"help": "none, local:N, or the address of a Dask scheduler."})
    target: float | None = field(
        default=None, metadata={"help": "Balanced accuracy to reach; by default the published one of people, if any."}
    )
    seed: int = field(default=0, metadata={"help": "Of the bootstrap."})


def main(script: ScriptArguments, arguments: SweepArguments) -> None:
    """Run or resume the sweep, draw the curves, print them."""
    from connectomebench.cards.learning_curve_plot import learning_curve_figure
    from connectomebench.cards.plotting import save
    from connectomebench.core.tasks import get_task
    from connectomebench.dataset.loading import load_rows
    from connectomebench.evaluation.learning_curve import as_plain, samples_text
    from connectomebench.evaluation.sweep import people_level, run_sweep

    values = vars(arguments)
    sizes = None if arguments.sizes is None else tuple(arguments.sizes)
    config = SweepConfig(**values | {"models": tuple(arguments.models), "sizes": sizes})
    data = load_rows(config.dataset, config.species, "test", config.revision, task=config.task).data
    published = people_level(get_task(data.task))
    target = script.target if script.target is not None else published
    found = run_sweep(
        config,
        script.out / "results",
        cache=script.out / "features",
        scheduler=script.scheduler,
        target=target,
        seed=script.seed,
        echo=lambda line: print(line, file=sys.stderr),
    )
    for model, curve in found.curves.items():
        print(f"{model}: {samples_text(curve)}", file=sys.stderr)
    level = "published level of people (mouse)" if script.target is None and published is not None else "target"
    simulated = bool(data.source["simulated_errors"])
    figure = learning_curve_figure(found.curves, f"{data.task}, {data.species}", level, simulated=simulated)
    path = save(figure, script.out / "learning-curve.png")
    curves = {model: as_plain(curve) for model, curve in found.curves.items()}
    print(
        json.dumps(
            {
                "task": found.task,
                "species": found.species,
                "simulated_errors": simulated,
                "level": level if target is not None else None,
                "curves": curves,
                "figure": str(path),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    try:
        with extras_named():
            from transformers import HfArgumentParser

            parser = HfArgumentParser([ScriptArguments, SweepArguments])  # type: ignore[arg-type]
            main(*parser.parse_args_into_dataclasses())
    except ConnectomeBenchError as error:
        sys.exit(f"error: {error}")
