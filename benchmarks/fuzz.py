"""Fuzz everything that parses files of strangers: each is read, or refused in one line, and nothing else happens.

Run:
    python benchmarks/fuzz.py --minutes 10 --json

Every target starts from small valid files, which hypothesis changes: bytes overwritten, cut, repeated, zeroed, swapped
for others that mean something in these formats. A finding is any exception that is no `ConnectomeBenchError`, a
message of several lines, a process that needs more than `--memory-gb` beyond what it needs at rest or more than
`--seconds` for a file, a file opened for writing outside the folder of the example, a connection, a program started, or
anything unpickled. Findings are shrunk by hypothesis and written, with the file, below `--out`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from connectomebench.core.errors import ConnectomeBenchError

Read = Callable[[Path], object]

_TOKENS = (
    *(
        b"\0",
        b"\xff",
        b"\n",
        b"#",
        b"-1",
        b"0",
        b"nan",
        b"inf",
        b"1e400",
        b"9223372036854775808",
        b"18446744073709551616",
    ),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"- ",
        b"&a",
        b"*a",
        b"<<: ",
        b"!!python/object:os.system",
        b"../../x",
        b"/etc/passwd",
    ),
    *(b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"PK\x03\x04", b"PAR1", b"\x80\x04", b"\xef\xbb\xbf"),
)
_LONGEST_MESSAGE = 2_000


@dataclass(frozen=True)
class Target:
    """A parser and files that it reads.

    Attributes
    ----------
    name
        Of the target.
    file
        Name of the file, relative to the folder of an example.
    seeds
        Contents that are read without an error.
    read
        Reads the file in a folder, completely.
    """

    name: str
    file: str
    seeds: tuple[bytes, ...]
    read: Read


@dataclass
class Outcome:
    """What a target did.

    Attributes
    ----------
    examples, read, refused
        Files tried, read without an error, and refused in one line.
    findings
        Messages of what should not have happened, each once.
    """

    target: str
    examples: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


class Finding(Exception):
    """Something happened that must not happen."""


# ------------------------------------------------------------------ what is forbidden


class Watch:
    """Notes what a parser does besides reading, through audit events of the interpreter."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in ("socket.connect", "subprocess.Popen", "os.system", "os.exec", "pickle.find_class"):
            self.seen.append(f"{event} {str(arguments)[:100]}")
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path, mode, flags = arguments
            writes = bool(set(mode or "") & set("wax+")) or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (links are followed by nobody here)
            if writes and not Path(name).is_relative_to(self.folder) and not name.startswith("/dev/"):
                self.seen.append(f"wrote {name}")

    @contextmanager
    def over(self, folder: Path) -> Iterator[None]:
        """Watch while a folder is read."""
        self.folder, self.seen = folder, []
        try:
            yield
        finally:
            self.folder = None
        if self.seen:
            raise Finding(self.seen[0])


@contextmanager
def bounded(memory_gb: float, seconds: int) -> Iterator[None]:
    """Let a block use only so much more memory, and take only so long."""

    def too_long(*_: Any) -> None:
        raise Finding(f"took longer than {seconds} s")

    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + int(memory_gb * 1e9), before[1]))
    handler = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    except MemoryError:
        raise Finding(f"needed more than {memory_gb:g} GB") from None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


# ------------------------------------------------------------------ files


@st.composite
def changed(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Change a valid file in a few places."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        if not data:
            break
        # heads and tails of files hold what describes the rest
        at = draw(st.integers(0, len(data) - 1) | st.integers(0, min(200, len(data) - 1)))
        at = len(data) - 1 - at if draw(st.booleans()) and at < 200 else at
        kind = draw(st.sampled_from(("byte", "bit", "token", "insert", "cut", "zero", "drop", "repeat")))
        n = draw(st.integers(1, 64))
        if kind == "byte":
            data[at] = draw(st.integers(0, 255))
        elif kind == "bit":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "token":
            token = draw(st.sampled_from(_TOKENS))
            data[at : at + len(token)] = token
        elif kind == "insert":
            data[at:at] = draw(st.sampled_from(_TOKENS))
        elif kind == "cut":
            del data[at:]
        elif kind == "zero":
            data[at : at + n] = bytes(len(data[at : at + n]))
        elif kind == "drop":
            del data[at : at + n]
        else:
            data[at:at] = data[at : at + n]
    return bytes(data)


def fuzz(target: Target, stop: float, number: int, limits: tuple[float, int], watch: Watch) -> Outcome:
    """Try files until a time (of ``time.monotonic``); a finding ends a round, and the next one has other files."""
    outcome = Outcome(target.name)
    start = time.monotonic()
    rounds = 0
    while time.monotonic() < stop:
        rounds += 1
        found = _round(target, stop, number * 1000 + rounds, limits, watch, outcome)
        if found is not None:
            outcome.findings.append(found[0])
            keep(target, found[1], found[0], len(outcome.findings))
    outcome.seconds = round(time.monotonic() - start, 1)
    return outcome


def _round(
    target: Target, stop: float, number: int, limits: tuple[float, int], watch: Watch, outcome: Outcome
) -> tuple[str, bytes] | None:
    """Try some hundred files; return the first new finding and the smallest file that shows it."""
    last: list[tuple[str, bytes]] = []

    @seed(number)
    @settings(
        max_examples=500,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(content=changed(target.seeds))
    def attempt(content: bytes) -> None:
        if time.monotonic() > stop:
            return
        outcome.examples += 1
        problem = try_file(target, content, outcome, limits, watch)
        # while it shrinks, the same problem counts
        if problem is not None and problem not in outcome.findings and (not last or problem == last[-1][0]):
            last.append((problem, content))
            raise Finding(problem)

    try:
        attempt()
    except (Finding, HypothesisException, ExceptionGroup):
        return last[-1] if last else None
    return None


def try_file(target: Target, content: bytes, outcome: Outcome, limits: tuple[float, int], watch: Watch) -> str | None:
    """Read one file; return what should not have happened, or None."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / target.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        try:
            with bounded(*limits), watch.over(folder):
                target.read(folder)
            outcome.read += 1
        except ConnectomeBenchError as error:
            outcome.refused += 1
            text = str(error)
            if "\n" in text or len(text) > _LONGEST_MESSAGE:
                return f"a message of {text.count(chr(10)) + 1} lines and {len(text)} characters"
        except Finding as finding:
            return str(finding)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = next((f for f in reversed(frames) if "connectomebench" in f.filename), frames[-1])
            return f"{type(error).__name__} below {Path(ours.filename).name}:{ours.name}"
    return None


_out: Path | None = None


def keep(target: Target, content: bytes, problem: str, number: int) -> None:
    """Write the file of a finding, shrunk, with what happened."""
    if _out is None:
        return
    folder = _out / f"{target.name}-{number}"
    path = folder / target.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    (folder / "problem.txt").write_text(problem + "\n")


# ------------------------------------------------------------------ targets


def targets(scratch: Path) -> list[Target]:
    """Return all targets, with valid files made in a folder."""
    return [*volume_targets(scratch), *shape_targets(scratch), *text_targets(scratch), *record_targets(scratch)]


def volume_targets(scratch: Path) -> list[Target]:
    """Return arrays in files, opened as labels and read in blocks."""
    import h5py
    import tifffile

    from connectomebench.sources.volumes.arrays import VolumeSpec, open_volume

    labels = np.arange(4 * 5 * 6, dtype=np.uint32).reshape(4, 5, 6) // 7

    def read(file: str, **stated: Any) -> Read:
        spec = VolumeSpec(file, axes="zyx", voxel_size_nm=(8, 8, 8), offset_vx=(0, 0, 0), **stated)

        def run(folder: Path) -> object:
            volume = open_volume(spec, kind="labels", base=folder)
            # what a build reads: blocks, not a whole volume that its header may make as large as it likes
            top = [min(n, 64) for n in volume.shape]
            return volume.read((0, 0, 0), (top[0], top[1], top[2]))

        return run

    np.savez(scratch / "a.npz", labels=labels)
    np.savez_compressed(scratch / "b.npz", labels=labels)
    np.save(scratch / "a.npy", labels)
    tifffile.imwrite(scratch / "a.tif", labels)
    tifffile.imwrite(scratch / "b.tif", labels.astype(np.uint8), compression="zlib")
    with h5py.File(scratch / "a.h5", "w") as file:
        file.create_dataset("labels", data=labels, chunks=(2, 5, 6), compression="gzip")
    found = {"npz": ("a.npz", "b.npz"), "npy": ("a.npy",), "tif": ("a.tif", "b.tif"), "h5": ("a.h5",)}
    return [
        Target(f"volume {kind}", f"v.{kind}", tuple((scratch / n).read_bytes() for n in names), read(f"v.{kind}"))
        for kind, names in found.items()
    ]


def shape_targets(scratch: Path) -> list[Target]:
    """Return skeletons and meshes."""
    import trimesh

    from connectomebench.demo.mesh_files import read_mesh
    from connectomebench.sources.morphology.swc import read_swc_folder

    swc = b"# neuron\n1 1 0 0 0 1 -1\n2 0 1 0 0 -1 1\n3 0 2 0 0 0.5 2\n4 0 2 1 0 nan 2\n"
    box = trimesh.creation.box()
    found = [Target("swc", "n.swc", (swc,), lambda folder: read_swc_folder(folder, 8.0))]
    for kind in ("obj", "ply", "stl", "glb"):
        data: Any = box.export(file_type=kind)
        seeds = (data.encode() if isinstance(data, str) else data,)
        if kind == "ply":
            text: Any = box.export(file_type="ply", encoding="ascii")
            seeds += (bytes(text),)
        found.append(
            Target(
                f"mesh {kind}", f"m.{kind}", seeds, lambda folder, k=kind: read_mesh((folder / f"m.{k}").read_bytes())
            )
        )
    return found


def text_targets(scratch: Path) -> list[Target]:
    """Return configurations, manifests and files of root ids."""
    from connectomebench.build.config import load_config
    from connectomebench.core.resources import resource_path
    from connectomebench.dataset.manifest import is_built, read_manifest
    from connectomebench.sources.cave.root_files import read_root_ids

    configs = tuple(path.read_bytes() for path in sorted(resource_path("examples").glob("*.yaml")))
    counts = {"train": {"yes": 1}, "validation": {}, "test": {}}
    entry = {"config_fingerprint": "ab", "fingerprint": "cd", "counts": counts, "source": {}, "config": {}}
    manifest = json.dumps({"format_version": "1.0", "task": "merge_action", "species": {"fly": entry}}).encode()
    roots = b"root_id,type\n720575940628857210,a\n720575940628857211,b\n# end\n"
    return [
        Target("configuration", "build.yaml", configs, lambda folder: load_config(folder / "build.yaml")),
        Target(
            "manifest",
            "manifest.json",
            (manifest,),
            lambda folder: (read_manifest(folder), is_built(folder, "fly", "ab")),
        ),
        Target("root ids", "roots.csv", (roots,), lambda folder: read_root_ids(folder / "roots.csv")),
    ]


def record_targets(scratch: Path) -> list[Target]:
    """Return result records, read and summarised."""
    from connectomebench.evaluation.results import read_results, summarise, write_results

    rows = [
        {
            "sample_id": f"s{i}",
            "task": "merge_action",
            "species": "fly",
            "partition": "test",
            "model": "probe",
            "model_revision": "abc",
            "dataset_fingerprint": "f00d",
            "code_version": "1",
            "question": "?",
            "prediction": "yes" if i % 3 else "no",
            "probability": i / 10,
            "answer": "yes" if i % 2 else "no",
            "group": f"g{i // 2}",
            "latency_s": 0.01,
        }
        for i in range(10)
    ]
    path = write_results(scratch / "r.parquet", rows)
    return [
        Target(
            "records",
            "r.parquet",
            (path.read_bytes(),),
            lambda folder: summarise(read_results(folder), resamples=10),
        )
    ]


def main() -> int:
    """Run from the command line; exit status 1 where there are findings."""
    global _out
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="time for all targets together (default: 10)")
    parser.add_argument("--only", help="only targets whose name holds this")
    parser.add_argument("--memory-gb", type=float, default=2.0, help="memory a file may need (default: 2)")
    parser.add_argument("--seconds", type=int, default=20, help="time a file may take (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of hypothesis")
    parser.add_argument("--out", type=Path, help="folder for the files of findings")
    parser.add_argument("--json", action="store_true", help="write JSON")
    arguments = parser.parse_args()
    _out = arguments.out
    logging.disable(logging.CRITICAL)  # of libraries that tell of every damage
    watch = Watch()
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        chosen = [t for t in targets(Path(scratch)) if not arguments.only or arguments.only in t.name]
        each = 60 * arguments.minutes / max(len(chosen), 1)
        for target in chosen:
            for content in target.seeds:  # valid files are read: else only refusals would be tried
                problem = try_file(target, content, counted := Outcome(target.name), (8.0, 60), watch)
                if problem is not None or counted.refused:
                    raise SystemExit(f"{target.name}: a valid file is not read ({problem or 'refused'})")
            limits = arguments.memory_gb, arguments.seconds
            outcomes.append(fuzz(target, time.monotonic() + each, arguments.seed, limits, watch))
            print(f"{target.name}: {len(outcomes[-1].findings)} findings", file=sys.stderr)
    if arguments.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        for o in outcomes:
            print(f"{o.target}: {o.examples} files, {o.read} read, {o.refused} refused, {len(o.findings)} findings")
            for finding in o.findings:
                print(f"  {finding}")
    return 1 if any(outcome.findings for outcome in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
