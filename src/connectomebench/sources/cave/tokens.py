"""Find the token that caveclient keeps for a CAVE server. It is never shown or written."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_NAME, _OLD_NAME = "cave-secret.json", "chunkedgraph-secret.json"
_NO_FILE = "there is no such file"
_NO_TOKEN = "it holds no token"


@dataclass(frozen=True)
class Token:
    """A token file. ``problem`` says why it is unusable (``value`` is then empty); ``value`` is never shown."""

    path: Path
    problem: str
    value: str = field(default="", repr=False)

    @property
    def is_no_file(self) -> bool:
        """True where there is not even a file for a token."""
        return self.problem == _NO_FILE

    @property
    def is_absent(self) -> bool:
        """True where nobody stored a token, false also for one that cannot be used."""
        return self.problem in (_NO_FILE, _NO_TOKEN)


def read_token(login: str) -> Token:
    """Read the token caveclient uses for ``login``, which a build also gives to cloud-volume.

    Files as in caveclient 8.2.1 (``auth.AuthClient``): that of the server, else the common one; if it holds no
    token, the legacy one.
    """
    folder = Path(os.path.expanduser("~")) / ".cloudvolume" / "secrets"  # noqa: PTH111 (as there: works without a home)
    own = folder / f"{urlsplit(login).netloc}-{_NAME}"
    first = own if os.path.isfile(own) else folder / _NAME  # noqa: PTH113 (as there: False where it may not look)
    read = [_read(first), _read(folder / _OLD_NAME)]
    return next((token for token in read if token.problem not in (_NO_FILE, _NO_TOKEN)), read[0])


def _read(path: Path) -> Token:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["token"]
    except FileNotFoundError:
        return Token(path, _NO_FILE)
    except OSError as error:
        return Token(path, f"it cannot be read ({error.strerror})")
    except KeyError:
        return Token(path, _NO_TOKEN)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return Token(path, 'it is not JSON of the form {"token": "..."}')
    if value is None:
        return Token(path, _NO_TOKEN)
    if not value:
        return Token(path, "its token is empty")
    # what cloud-volume accepts (graphene.metadata.parse_token) and a header can hold
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", value):
        return Token(path, "its token is neither hexadecimal nor base64")
    return Token(path, "", value)


def how_to_log_in(login: str) -> str:
    """Return instructions to get and store a token for a server."""
    setup = f"python -c \"from caveclient import CAVEclient; CAVEclient.setup_token('{login}')\""
    return f"run {setup}; the token is shown at {login}/sticky_auth/settings/tokens"
