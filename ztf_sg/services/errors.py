"""What can go wrong with a catalogue or image service, one exception for each thing to do about it."""


class ServiceError(RuntimeError):
    """A service did not give what was asked; the base of the other exceptions here."""


class NothingFound(ServiceError, LookupError):
    """The service answered properly, and holds nothing that matches: widen the request."""


class AuthenticationError(ServiceError):
    """Something is wrong with the account; the base of the next three exceptions."""


class WrongPassword(AuthenticationError):
    """The service refused the account: check user name and password."""


class MissingAccount(AuthenticationError):
    """The data need an account, and none is at hand: register one, or hand it over."""


class ProprietaryData(AuthenticationError):
    """The account is fine, but has no right to these data: ask their owners, or do without them."""


class RefusedRequest(ServiceError):
    """The service understood the request and found fault with it: change the request."""


class BadAnswer(ServiceError):
    """The service answered something that is not what was asked, such as an error page: try again."""


class UnusableAnswer(BadAnswer):
    """The service answered with a file of the right kind, but of no use, such as one without pixels."""


class Unreachable(ServiceError):
    """The service could not be reached, was too slow or is out of order: try again later.

    `retry_after` is how long the service asks to be left alone [s].
    """

    def __init__(self, message, retry_after=0.0):
        super().__init__(message)
        self.retry_after = retry_after


class ServiceDown(ServiceError):
    """The service has failed for so long that it is left alone: try again in some hours."""


class Stopped(ServiceError):
    """The user stopped the work before this request got its answer: run it again to go on."""
