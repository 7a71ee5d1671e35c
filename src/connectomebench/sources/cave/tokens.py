"""Which token a CAVE server gets: the common one only servers that this package knows, and none without encryption.

caveclient sends the common token (``cave-secret.json``) to any address that a configuration names. Here another server
gets a token only if there is a file for it, named after it as caveclient and cloud-volume name it.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from connectomebench.core.species import SPECIES

_NAME, _OLD_NAME = "cave-secret.json", "chunkedgraph-secret.json"
NO_FILE = "there is no such file"
_NO_TOKEN = "it holds no token"
_UNSENT = "it is not sent without encryption; use https"


@dataclass(frozen=True)
class Token:
    """A token file. ``problem`` says why it is unusable (``value`` is then empty); ``value`` is never shown."""

    path: Path
    problem: str
    value: str = field(default="", repr=False)

    @property
    def is_no_file(self) -> bool:
        """True where there is not even a file for a token."""
        return self.problem == NO_FILE

    @property
    def is_absent(self) -> bool:
        """True where there is no token to send, false for one that was stored and cannot be used."""
        return self.problem in (NO_FILE, _NO_TOKEN, _UNSENT)


def known_servers() -> frozenset[str]:
    """Return the names of the CAVE servers of all species: those that log in, and those of the segmentations."""
    graphs = [s.segmentation for s in SPECIES.values() if (s.segmentation or "").startswith("graphene://")]
    addresses = [*(s.server for s in SPECIES.values()), *graphs]
    return frozenset(_split(address).netloc for address in addresses if address)


def is_known(address: str) -> bool:
    """Return whether an address is a known server, over https."""
    split = _split(address)
    return split.scheme == "https" and split.netloc in known_servers()


def same_server(one: str, other: str) -> bool:
    """Return whether two addresses, or CloudVolume paths, are on one server and equally encrypted."""
    return _split(one)[:2] == _split(other)[:2]


def read_token(address: str) -> Token:
    """Read the token for a server.

    Files as in caveclient 8.2.1 (``auth.AuthClient``): that of the server, else, for a known server over https, the
    common one, and if that holds no token the legacy one.

    Parameters
    ----------
    address
        ``https://HOST``, or a CloudVolume path. Without encryption only this machine gets a token.
    """
    split = _split(address)
    folder = Path(os.path.expanduser("~")) / ".cloudvolume" / "secrets"  # noqa: PTH111 (as there: works without a home)
    own = folder / f"{split.netloc}-{_NAME}"
    if split.scheme != "https" and not _is_here(split):
        return Token(own, _UNSENT)
    there = os.path.isfile(own)  # noqa: PTH113 (as there: False where it may not look)
    if not is_known(address):
        return _read(own) if there else Token(own, NO_FILE)
    read = [_read(own if there else folder / _NAME), _read(folder / _OLD_NAME)]
    return next((token for token in read if token.problem not in (NO_FILE, _NO_TOKEN)), read[0])


def volume_token(path: str, login: str, token: str | None) -> str | None:
    """Return the token for a volume.

    Parameters
    ----------
    path
        CloudVolume path.
    login, token
        Server that was logged in to, and its token.

    Returns
    -------
    str or None
        ``token`` if the volume lies on that server, or both are known; else the volume's server's own.
    """
    if same_server(path, login) or (is_known(path) and is_known(login)):
        return token
    return read_token(path).value or None


def _read(path: Path) -> Token:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["token"]
    except FileNotFoundError:
        return Token(path, NO_FILE)
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


def _split(address: str) -> SplitResult:
    plain = re.sub(r"^(?:[a-z0-9]+://)?(?:middleauth\+)?(?=https?://)", "", address)
    return urlsplit(plain if "://" in plain else f"https://{plain}")


def _is_here(split: SplitResult) -> bool:
    try:
        name = split.hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
