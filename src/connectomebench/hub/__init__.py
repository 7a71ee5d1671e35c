"""Publishing to the Hugging Face Hub: what would change, what is refused, and one commit for it."""

from __future__ import annotations

from connectomebench.hub.publish import publish

__all__ = ["publish"]
