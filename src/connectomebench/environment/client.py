"""Play an episode on a server of :mod:`connectomebench.environment.server`."""

from __future__ import annotations

from typing import Any

from openenv.core.client_types import StepResult
from openenv.core.env_client import EnvClient

from connectomebench.environment.server import LookAction, LookObservation, LookState


class LookAroundClient(EnvClient[LookAction, LookObservation, LookState]):
    """Client with a session of its own: ``LookAroundClient(base_url=...).sync()``, then ``reset`` and ``step``."""

    def _step_payload(self, action: LookAction) -> dict[str, Any]:
        return {"name": action.name}

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[LookObservation]:
        done, reward = bool(payload.get("done", False)), payload.get("reward")
        seen = LookObservation.model_validate({**payload.get("observation", {}), "done": done, "reward": reward})
        return StepResult(observation=seen, reward=reward, done=done)

    def _parse_state(self, payload: dict[str, Any]) -> LookState:
        return LookState.model_validate(payload)
