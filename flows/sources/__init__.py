"""Where data comes from: the catalogue of URLs, the landing, and synthetic trips."""

from flows.sources.catalogue import SourceFile, locate_source
from flows.sources.landed import LandedFile
from flows.sources.landing import land, source_version

__all__ = ["LandedFile", "SourceFile", "land", "locate_source", "source_version"]
