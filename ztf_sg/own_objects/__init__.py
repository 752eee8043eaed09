"""Classes of the objects of a list, from all images of each."""

from ztf_sg.own_objects.combine import combine

__all__ = ["combine"]
