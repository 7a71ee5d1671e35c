"""The public datasets ConnectomeBench and ConnectomeBench2, read into our rows."""

from connectomebench.interop.files import is_public
from connectomebench.interop.public import load_public, recognise, stream_public

__all__ = ["is_public", "load_public", "recognise", "stream_public"]
