"""Loopback stand-ins for the archives that the live services ask: IRSA, Astro Data Lab, the CDS, Fink
and SkyBoT."""

from .clients import point_clients_to
from .faults import KINDS
from .parts import ImageParts
from .server import ArchiveServer

__all__ = ["KINDS", "ArchiveServer", "ImageParts", "point_clients_to"]
