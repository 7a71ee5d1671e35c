"""Build the dataset `split_action_with_em`.

Is this proposed cut of a fused segment right? Slices of image data are shown, too.

Run:
    python builders/split_action_with_em.py --config examples/fib25.yaml --out out

The species is a config of the dataset and comes from the file; other species in the same folder stay as they are.
The partition is that of all tasks the file names, so that the datasets of one build can be mixed: all of them are found
and drawn, and this one is written.
"""

from connectomebench.cli import run_builder

if __name__ == "__main__":
    raise SystemExit(run_builder("split_action_with_em"))
