"""Report the token that a build uses for a CAVE server. It is never shown or written."""

from __future__ import annotations

from connectomebench.doctor.checks import CheckResult
from connectomebench.sources.cave.tokens import Token, how_to_log_in


def token_finding(token: Token, login: str) -> CheckResult:
    """Report the location of a server's token, or its problem."""
    if token.problem:
        return CheckResult("token", "missing", f"{token.path}: {token.problem}", how_to_log_in(login))
    return CheckResult("token", "ok", f"in {token.path}")
