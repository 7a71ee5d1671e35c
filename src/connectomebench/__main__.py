"""Run the command line as ``python -m connectomebench``."""

from connectomebench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
