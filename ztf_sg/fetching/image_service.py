"""What fetching needs of an image service.

An image service has ``origin`` (the ORIGIN card of its images), ``search_images(ra, dec, size, filtercode,
max_seeing, max_infobits)``, which returns ZTF metadata, and ``get_cutout(image, ra, dec, size)``, which
returns the bytes of a FITS file. Each makes one attempt; `ztf_sg.fetching.fetch` decides what is to be tried
again. It may have ``get_image(image)`` for whole images, ``concurrency``, the number of requests that it
takes at a time, ``retries``, its :class:`~ztf_sg.services.retries.Retries`, and
``check_positions(positions)``, which raises an error for a list of positions that it cannot serve.
"""

NEEDED_OF_SERVICES = ("origin", "search_images", "get_cutout")


def check_service(service):
    """Raise a TypeError unless something has what image services need."""
    lacking = [name for name in NEEDED_OF_SERVICES if not hasattr(service, name)]
    if lacking or isinstance(service, type):
        fault = f"which lacks {', '.join(lacking)}" if lacking else "a class"
        raise TypeError(
            f"service: expected an image service, such as Irsa() or MockSky(), got {service!r}, {fault}"
        )
