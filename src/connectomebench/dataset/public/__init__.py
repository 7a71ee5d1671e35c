"""Load the public datasets ConnectomeBench and ConnectomeBench2 as rows of this package."""

from connectomebench.dataset.public.load_public import load_public, recognise, stream_public
from connectomebench.dataset.public.repo_files import is_public

__all__ = ["is_public", "load_public", "recognise", "stream_public"]
