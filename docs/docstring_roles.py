"""Griffe extension: roles of the docstrings (``:func:`a.b```) become links, where the reference has a page for them."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|func|class|meth|attr|data):`~?([\w.]+)`")


class RoleLinks(griffe.Extension):
    """Rewrite the docstring of every object that is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Put a link that MkDocs may leave out in the place of each role."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(
                r'<autoref identifier="\1" optional><code>\1</code></autoref>', obj.docstring.value
            )
