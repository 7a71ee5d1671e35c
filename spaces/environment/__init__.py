"""Look around at places of a connectome, as an OpenEnv environment."""

from .client import LookAroundClient
from .models import LookAction, LookObservation

__all__ = ["LookAction", "LookAroundClient", "LookObservation"]
