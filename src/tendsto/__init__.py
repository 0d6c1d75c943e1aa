"""Algorithms that come with a guarantee, and the evidence that the guarantee holds."""

from importlib import metadata

try:
    __version__ = metadata.version("tendsto")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"
