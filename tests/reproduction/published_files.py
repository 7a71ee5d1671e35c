"""A small folder in the layout of the published results; every answer and every number in it is invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

TASK = "merge_action"
N, VOTES = 12, 3
TRUTH = [number % 2 == 0 for number in range(N)]
# the first two samples share a segment (801), so that they are one group
SEGMENTS = [("801", "802"), ("803", "801"), *((f"9{n:02}", f"8{n:02}") for n in range(10, 20))]
CONFIDENCE = [95, 0, 80, 70, 90, 60, 100, 85, 55, 75, 65, 40]
VLM = "/checkpoints/invented_finetune_Qwen3-VL-4B-Instruct_lora_merged"
SWEEP = {16: (0.60, 0.64), 64: (0.70, 0.78)}
HUMAN_TRUTH = [True, True, True, False, False, False, False, False]


def vlm_votes() -> list[list[bool | None]]:
    """Three votes a sample: mostly right, one without an answer, first answers that the majority overrules."""
    votes: list[list[bool | None]] = [[t, t, t] for t in TRUTH]
    votes[2] = [not TRUTH[2], TRUTH[2], TRUTH[2]]
    votes[3] = [TRUTH[3], not TRUTH[3], not TRUTH[3]]
    votes[4] = [not TRUTH[4], TRUTH[4], not TRUTH[4]]
    votes[7] = [TRUTH[7], None, TRUTH[7]]
    votes[8] = [not TRUTH[8], TRUTH[8], TRUTH[8]]
    return votes


def replies(votes: list[bool | None], confidence: int) -> list[str]:
    """Words of each vote; every vote states the same confidence."""
    said = {True: "yes", False: "no", None: "perhaps"}
    return [f"<answer>{said[v]}</answer>\n<confidence>{confidence}</confidence>" for v in votes]


def evaluation(model: str, split: str, votes: list[list[bool | None]], confident: bool) -> dict[str, Any]:
    """One file of answers, with the numbers the published files state about themselves."""
    predictions = []
    for number, (truth, given, (one, other)) in enumerate(zip(TRUTH, votes, SEGMENTS, strict=True)):
        kind = "good" if truth else "bad"
        words = replies(given, CONFIDENCE[number]) if confident else [str(v) for v in given]
        entry = {
            "sample_idx": number,
            "sample_id": {"sample_dir": f"somewhere/{kind}/7{number:02}_{one}_{other}"},
            "image_paths": [f"images/{number}_{v}_merge_7{number:02}_{one}_{other}_8192nm_front.png" for v in range(3)],
            "ground_truth": truth,
            "all_predictions": given,
            "all_responses": words,
        }
        predictions.append(entry | ({"confidence": CONFIDENCE[number] / 100} if confident else {}))
    held = [(v, t) for given, t in zip(votes, TRUTH, strict=True) for v in given if v is not None]
    return {
        "task_name": TASK,
        "model": model,
        "dataset_source": "merge-parquet",
        "split": split,
        "num_samples": len(predictions),
        "num_votes": VOTES,
        "timestamp": "20200101_000000",
        "predictions": predictions,
        "accuracy": float(np.mean([given[0] == t for given, t in zip(votes, TRUTH, strict=True)])),
        "majority_accuracy": float(np.mean([given.count(t) >= 2 for given, t in zip(votes, TRUTH, strict=True)])),
        "individual_accuracy": float(np.mean([v == t for v, t in held])),
    }


def open_bins(confidence: list[float], right: list[bool]) -> float:
    """ECE over ten bins without their lower edges, one bin at a time."""
    total = 0.0
    for edge in range(1, 11):
        inside = [(c, r) for c, r in zip(confidence, right, strict=True) if (edge - 1) / 10 < c <= edge / 10]
        total += abs(sum(c for c, _ in inside) - sum(r for _, r in inside)) / len(confidence)
    return total


def files() -> dict[str, Any]:
    """All files by their path."""
    votes = vlm_votes()
    vlm = evaluation(VLM, "test", votes, confident=True)
    right = [given.count(t) >= 2 for given, t in zip(votes, TRUTH, strict=True)]
    first = [c / 100 for c in CONFIDENCE]
    vlm["calibration"] = {"ece": open_bins(first, right)}
    pooled = [(c, v, t) for c, given, t in zip(first, votes, TRUTH, strict=True) for v in given if v is not None]
    calibration = {
        "vlm": {
            "accuracy": vlm["individual_accuracy"],
            "ece": open_bins([c for c, _, _ in pooled], [v == t for _, v, t in pooled]),
            "brier_score": float(np.mean([(c - t) ** 2 for c, _, t in pooled])),
        },
        "linear_probe": {"accuracy": 0.74, "ece": 0.11, "mce": 0.2, "brier_score": 0.2},
        "ece": 0.05,
    }
    shares = {k: vlm[k] for k in ("accuracy", "majority_accuracy", "individual_accuracy")}
    totals = {"vlm": shares | {"balanced_accuracy": vlm["majority_accuracy"], "correct": 9, "total": N}}
    finetuned = {"accuracy": 0.9, "balanced_accuracy": 0.88, "correct": 90, "total": 100}
    return {
        "final_data/eval_merge_action_vlm_votes3.json": vlm,
        "final_data/eval_merge_action_gpt-5_votes3.json": evaluation(
            "gpt-5", "all", [[True, True, True] for _ in TRUTH], confident=False
        ),
        "final_data/resnet_results.json": {
            "merge_action_resnet": {
                **totals,
                "small_model": {"accuracy": 0.7, "balanced_accuracy": 0.66, "total": 50, "train_samples": 8},
                "fully_finetuned_model": {"accuracy": 0.7, "balanced_accuracy": 0.66, "total": 50, "train_samples": 96},
            }
        },
        "final_data/resnet_cross_species_results.json": {
            TASK: {
                "mouse": {"finetuned": finetuned, **totals},
                "fly": {"finetuned": finetuned | {"balanced_accuracy": 0.6}},
                "human": {},
            }
        },
        "final_data/calibration_cross_species_results.json": {
            TASK: {"mouse": calibration, "fly": {"ece": 0.3, "accuracy": 0.8}}
        },
        "final_data/linear_probe_cross_species_results.json": {
            TASK: {"mouse": {"accuracy": 0.74, "balanced_accuracy": 0.74, "test_samples": 40}}
        },
        "final_data/resnet_train_samples.json": {TASK: {"train_samples": 96, "test_samples": 100}},
        "model_metadata.json": {"train_samples": {TASK: 99}},
        "linear_probe_sweep/data_sweep_merge_action.json": sweep(),
        "human_eval/human_eval_merge_anonymous_1.json": sitting(),
    }


def sweep() -> dict[str, Any]:
    """Two repeats for each number of training samples, of the accuracies in `SWEEP`."""
    return {
        "task": TASK,
        "test_samples": 40,
        "all_repeat_results": [
            {
                "n_train": n,
                "test_accuracy": a,
                "test_tpr": a + 0.1,
                "test_tnr": a - 0.1,
                "test_ece": (0.1 if n == 64 else 0.2) + 0.02 * repeat,
            }
            for n, accuracies in SWEEP.items()
            for repeat, a in enumerate(accuracies)
        ],
    }


def sitting() -> dict[str, Any]:
    """Eight responses of one person, and of a second whose name must not be kept."""
    answers = [not t if number == 0 else t for number, t in enumerate(HUMAN_TRUTH)]
    return {
        "task_name": "split-error-correction",
        "session_id": "1",
        "accuracy": 7 / 8,
        "accuracy_se": (7 / 8 / 8 / 8) ** 0.5,
        "zoe_accuracy": 1.0,
        "responses": [
            {
                "sample_idx": number + 1,
                "human_answer": answer,
                "ground_truth": truth,
                "response_time_seconds": 5.0 + number,
                "image_paths": [f"/Users/zoe/data/merge-parquet/images/{number}_0_person_place_8192nm_front.png"],
                "metadata": {"sample_dir": f"x/good/5{number}_6{number}_7{number}", "segment1_id": f"6{number}"},
                "zoe_answer": truth,
            }
            for number, (answer, truth) in enumerate(zip(answers, HUMAN_TRUTH, strict=True))
        ],
    }


def write_published(folder: Path) -> Path:
    """Write all files below a folder and return it."""
    for name, content in files().items():
        write_file(folder / name, content)
    return folder


def write_file(path: Path, content: Any) -> Path:
    """Write one file as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
