"""An account at IRSA: where its name and password come from, and logging in with it.

Nothing is ever prompted for, and the password appears in no message, log or file.
"""

import configparser
import hashlib
import logging
import os
import threading
import time
from urllib.parse import urlsplit

from ztfquery import io

from .errors import BadAnswer, MissingAccount, WrongPassword

USER_VARIABLE, PASSWORD_VARIABLE = "IRSA_USERNAME", "IRSA_PASSWORD"
COOKIE_DOMAIN = ".ipac.caltech.edu"
# Log-ins in a row that open no session, after which the password is taken to be wrong: at first, and when it
# had been right before. Two, because a page of maintenance looks the same.
REFUSALS, LATER_REFUSALS = 2, 4
PAUSE = 1.0  # between two log-ins in a row, in which such a page may go [s]
REMEDY = (
    f"register one at IRSA, then give auth=(user, password), or set {USER_VARIABLE} and {PASSWORD_VARIABLE}, "
    "or store it with ztfquery.io.set_account('irsa')"
)


class Account:
    """An account, which opens a session when it is needed.

    `auth`, user name and password, is looked for by `find_account` if it is None. `session`, an HttpSession,
    sends the log-in and keeps the cookies; `sessions` is the number of sessions opened so far.
    """

    def __init__(self, auth, session):
        # the message must not repeat what was given
        if auth is not None and not _is_account(auth):
            raise ValueError("auth: expected a user name and a password, both non-empty text, or None")
        self.given = tuple(auth) if auth else None
        self.sessions = 0
        self._auth = self.given
        self._session = session
        self._lock = threading.Lock()
        self._refusals = 0
        self._is_refused = False
        for name in ("connectionpool", "connection", "util.retry"):
            logging.getLogger(f"urllib3.{name}").addFilter(_holds_no_password)

    @property
    def is_in_use(self):
        """Whether requests are sent with this account, or will be."""
        return self.given is not None or self.sessions > 0

    @property
    def cache_key(self):
        """Text by which kept answers to this account differ from others; empty while it is not in use."""
        if not self.is_in_use:
            return ""
        user, _ = self._auth
        return f" with account {hashlib.sha256(user.encode()).hexdigest()[:8]}"

    def is_known(self):
        """Tell whether there is an account to log in with."""
        return (self._auth or find_account()) is not None

    def log_in(self, name, after=0):
        """Open a session, unless one was opened since number `after`; `name` says for what, in messages.

        Raises MissingAccount without an account; WrongPassword if IRSA opens no session, and from then on
        without asking, which might lock the account; Unreachable or BadAnswer if the log-in does not work.
        """
        with self._lock:
            if not self._is_refused and self.sessions <= after:
                self._open(name)
            if self._is_refused:
                raise WrongPassword(
                    "IRSA opens no session for this account; check user name and password, and whether its "
                    "page for logging in works"
                )

    def _open(self, name):
        self._auth = self._auth or find_account()
        if self._auth is None:
            raise MissingAccount(f"{name}: IRSA wants an account, and none is at hand; {REMEDY}")
        while not self._is_session_opened():
            self._refusals += 1
            self._is_refused = self._refusals >= (LATER_REFUSALS if self.sessions else REFUSALS)
            if self._is_refused:
                return
            if self._refusals == REFUSALS:
                raise BadAnswer("IRSA answered the log-in with no session")
            time.sleep(PAUSE)
        self._refusals = 0
        self.sessions += 1

    def _is_session_opened(self):
        """Send user name and password once; tell whether IRSA opened a session for them."""
        self._session.cookies.clear()
        parameters = dict(zip(("josso_username", "josso_password"), self._auth, strict=True))
        self._session.download(io.LOGIN_URL, "the log-in", {"josso_cmd": "login", **parameters})
        return _has_session(self._session.cookies)


def find_account():
    """Return the user name and password of an account at IRSA; None if none is set.

    They come from the environment variables :data:`USER_VARIABLE` and :data:`PASSWORD_VARIABLE`, or from
    ztfquery's store (``ztfquery.io.set_account("irsa")``).

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
    is_pair = isinstance(auth, (tuple, list)) and len(auth) == 2
    return is_pair and all(isinstance(part, str) and part for part in auth)


def _has_session(cookies):
    """Tell whether cookies are those of a session: at IRSA, they hold for its whole domain."""
    at_irsa = urlsplit(io.LOGIN_URL).hostname.endswith(COOKIE_DOMAIN)
    return any(cookie.domain == COOKIE_DOMAIN or not at_irsa for cookie in cookies)


def _holds_no_password(record):
    """Tell whether a log record may be kept: urllib3 logs URLs, and that of the log-in holds the password."""
    return "josso_password" not in f"{record.getMessage()} {record.exc_info}"
