"""Actions and observations."""

from connectomebench.environment.server import LookAction, LookObservation, LookState

__all__ = ["LookAction", "LookObservation", "LookState"]
