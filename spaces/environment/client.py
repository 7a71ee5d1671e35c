"""Client of the environment."""

from connectomebench.environment.client import LookAroundClient

__all__ = ["LookAroundClient"]
