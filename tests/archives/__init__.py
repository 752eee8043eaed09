"""Loopback stand-ins for the archives that the live services ask: IRSA, Astro Data Lab and the CDS."""

from .clients import point_clients_to
from .faults import KINDS
from .server import ArchiveServer

__all__ = ["KINDS", "ArchiveServer", "point_clients_to"]
