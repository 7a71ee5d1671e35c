"""Run checks in a subprocess, since drivers and libraries may crash or hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

_TIMEOUT_S = 120


def apart(function: Callable[..., Any], *words: str, **env: str) -> Any:
    """Call a function in a subprocess.

    Parameters
    ----------
    function
        Module-level function with a JSON-serialisable result.
    words
        String arguments.
    env
        Additional environment variables.

    Returns
    -------
    object
        The function's result, through JSON.

    Raises
    ------
    TimeoutError
        If it does not finish within two minutes.
    RuntimeError
        If it raises or its process dies; with its last line of output.
    """
    name = function.__name__
    code = f"import json, sys; from {function.__module__} import {name}; print(json.dumps({name}(*sys.argv[1:])))"
    command = [sys.executable, "-P", "-c", code, *words]
    settings: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace", "env": {**os.environ, **env}}
    try:
        done = subprocess.run(command, timeout=_TIMEOUT_S, **settings)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{name} did not finish within {_TIMEOUT_S} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{name} ended with status {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])
