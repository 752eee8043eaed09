"""An account at IRSA: where its name and password come from, and signing on with it.

They are handed over, or read from the environment variables :data:`USER_VARIABLE` and
:data:`PASSWORD_VARIABLE`, or from ztfquery's store (``ztfquery.io.set_account("irsa")``). Nothing is ever
prompted for, and the password appears in no message, log or file.
"""

import configparser
import hashlib
import logging
import os
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

from ztfquery import io

from .errors import BadAnswer, MissingAccount, WrongPassword

USER_VARIABLE, PASSWORD_VARIABLE = "IRSA_USERNAME", "IRSA_PASSWORD"
COOKIE_DOMAIN = ".ipac.caltech.edu"
# Sign-ons in a row that open no session, after which the password is taken to be wrong: at first, and when it
# had been right before. Two, because a page of maintenance looks the same.
REFUSALS, LATER_REFUSALS = 2, 4
REMEDY = (
    f"register one at IRSA, then give auth=(user, password), or set {USER_VARIABLE} and {PASSWORD_VARIABLE}, "
    "or store it with ztfquery.io.set_account('irsa')"
)


class Account:
    """An account, which opens a session when it is needed.

    Parameters
    ----------
    auth : (str, str), optional
        User name and password; looked for in the environment and in ztfquery's store if left out.
    downloader : HttpSession
        Signs on, and keeps the cookies of the session.

    Attributes
    ----------
    sessions : int
        Number of sessions opened so far; 0 while everything is asked anonymously.
    """

    def __init__(self, auth, downloader):
        # the message must not repeat what was given
        if auth is not None and not _is_account(auth):
            raise ValueError("auth: expected a user name and a password, both non-empty text, or None")
        self.given = auth is not None
        self.sessions = 0
        self._auth = tuple(auth) if auth else None
        self._downloader = downloader
        self._lock = threading.Lock()
        self._refusals = 0
        self._refusal = None

    @property
    def mark(self):
        """What tells the answers to this account from others': nothing while it is not in use."""
        if not (self.given or self.sessions):
            return ""
        user, _ = self._auth
        return f" with account {hashlib.sha256(user.encode()).hexdigest()[:8]}"

    def is_known(self):
        """Tell whether there is an account to sign on with."""
        return (self._auth or find_account()) is not None

    def sign_on(self, name, after=0):
        """Open a session, unless one was opened since number `after`.

        Parameters
        ----------
        name : str
            What it is needed for, for messages.
        after : int

        Raises
        ------
        MissingAccount
            No account is at hand.
        WrongPassword
            IRSA opens no session for it. After a few sign-ons it is not asked again: that might lock it.
        Unreachable, BadAnswer
            The sign-on service does not work.
        """
        with self._lock:
            if self._refusal:
                raise WrongPassword(self._refusal)
            if self.sessions <= after:
                self._open(name)
                self.sessions += 1

    def _open(self, name):
        self._auth = self._auth or find_account()
        if self._auth is None:
            raise MissingAccount(f"{name}: IRSA wants an account, and none is at hand; {REMEDY}")
        self._downloader.cookies.clear()
        parameters = dict(zip(("josso_username", "josso_password"), self._auth, strict=True))
        with _password_kept_out_of_logs():
            self._downloader.download(io.LOGIN_URL, "the sign-on", {"josso_cmd": "login", **parameters})
        if not _has_session(self._downloader.cookies):
            self._judge_refusal()
        self._refusals = 0

    def _judge_refusal(self):
        """Tell a wrong password from a sign-on that does not work: both are pages without a session."""
        self._refusals += 1
        if self._refusals < (LATER_REFUSALS if self.sessions else REFUSALS):
            raise BadAnswer("IRSA answered the sign-on with no session")
        self._refusal = (
            "IRSA opens no session for this account; check user name and password, and whether its page for "
            "signing on works"
        )
        raise WrongPassword(self._refusal)


def find_account():
    """Return user name and password from the environment or from ztfquery's store; None without.

    Raises
    ------
    MissingAccount
        Only one of the two variables is set, or the store is damaged.
    """
    user, password = (os.environ.get(name) for name in (USER_VARIABLE, PASSWORD_VARIABLE))
    if user and password:
        return user, password
    if user or password:
        raise MissingAccount(f"of {USER_VARIABLE} and {PASSWORD_VARIABLE} only one is set; set both or none")
    try:
        auth = io._load_id_("irsa", askit=False)
        if _is_account(auth):
            return auth
    except AttributeError:  # ztfquery's way to say that there is none
        return None
    except (KeyError, ValueError, configparser.Error):
        pass  # the text of these errors may hold the password: not even their context is kept
    raise MissingAccount(
        "ztfquery's store holds a damaged account; store it anew with ztfquery.io.set_account('irsa')"
    )


def _is_account(auth):
    return (
        isinstance(auth, (tuple, list))
        and len(auth) == 2
        and all(isinstance(part, str) and part for part in auth)
    )


def _has_session(cookies):
    """Tell whether cookies are those of a session: at IRSA, they hold for its whole domain."""
    at_irsa = urlsplit(io.LOGIN_URL).hostname.endswith(COOKIE_DOMAIN)
    return any(cookie.domain == COOKIE_DOMAIN or not at_irsa for cookie in cookies)


@contextmanager
def _password_kept_out_of_logs():
    """Drop log records with the URL of the sign-on: it holds the password, and urllib3 logs URLs."""
    loggers = [
        logging.getLogger(f"urllib3.{name}") for name in ("connectionpool", "connection", "util.retry")
    ]

    def harmless(record):
        return "josso_password" not in f"{record.getMessage()} {record.exc_info}"

    for logger in loggers:
        logger.addFilter(harmless)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(harmless)
