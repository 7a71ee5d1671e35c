"""Serve the environment on the dataset that the variables CONNECTOMEBENCH_DATASET and _SPECIES name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.environment.samples import open_samples
from connectomebench.environment.server import make_app

try:
    app = make_app(
        open_samples(
            Path(os.environ["CONNECTOMEBENCH_DATASET"]),
            os.environ["CONNECTOMEBENCH_SPECIES"],
            os.environ.get("CONNECTOMEBENCH_PARTITION", "test"),
        )
    )
except KeyError as error:
    sys.exit(f"error: set {error.args[0]}; see README.md")
except ConnectomeBenchError as error:
    sys.exit(f"error: {error}")


def main() -> None:
    """Serve on port 8000 of all interfaces, as a container does."""
    import uvicorn

    uvicorn.run(app, host=os.environ.get("HOST", "0.0.0.0"), port=int(os.environ.get("PORT", "8000")))


if __name__ == "__main__":
    main()
