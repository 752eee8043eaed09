"""What can go wrong with a catalogue or image service, one exception for each thing to do about it."""


class ServiceError(RuntimeError):
    """A service did not give what was asked; the base of the other exceptions here."""


class NothingFound(ServiceError, LookupError):
    """The service answered properly, and holds nothing that matches: widen the request."""


class AuthenticationError(ServiceError):
    """The service refused the account, or asks for one: check user name and password."""


class BadAnswer(ServiceError):
    """The service answered something that is not what was asked, such as an error page."""


class Unreachable(ServiceError):
    """The service could not be reached, was too slow or is out of order: try again later."""
