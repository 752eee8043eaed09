import base64
import logging
import re
import socket
import threading
import traceback
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import ztfquery.io

from ztf_sg.services.account import (
    LATER_REFUSALS,
    PASSWORD_VARIABLE,
    USER_VARIABLE,
    Account,
    find_account,
)
from ztf_sg.services.errors import (
    BadAnswer,
    MissingAccount,
    NothingFound,
    ProprietaryData,
    ServiceError,
    Unreachable,
    WrongPassword,
)
from ztf_sg.services.irsa import LOG_INS, Irsa
from ztf_sg.services.retries import Retries


def make_irsa(auth=None, **options):
    return Irsa(auth, retries=Retries(tries=3, first_wait=0.001, longest_wait=0.01, patience=9), **options)


def position(image):
    return float(image["ra"]), float(image["dec"])


def log_ins(archive):
    return [record for record in archive.log if record.path.endswith("login.do")]


def store(user, password):
    """Write ztfquery's store as `ztfquery.io.set_account` does."""
    ztfquery.io.set_account("irsa", username=user, password=password, test=False)


@pytest.fixture
def public(archive):
    return archive.sky.images.iloc[0]


@pytest.fixture
def proprietary(archive):
    return archive.sky.images.iloc[5]


@pytest.fixture(params=["search", "cutout"])
def ask(request, proprietary):
    """Return a function that has a service search, or cut from a proprietary image, again after a fault."""

    def ask(service):
        if request.param == "search":
            return service.retries.call(service.search_images, *position(proprietary), 0.1, max_seeing=3)
        return service.retries.call(service.get_cutout, proprietary, *position(proprietary))

    return ask


def everything_said(error):
    """Return the text of an exception and of all exceptions behind it."""
    said, left, seen = "".join(traceback.format_exception(error)), [error], set()
    while left:
        error = left.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        said += f"{error!r} {error} {vars(error)}"
        left += [error.__cause__, error.__context__]
        left += [part for part in error.args if isinstance(part, BaseException)]
    return said


def forms_of(password):
    return {password, quote(password), quote(password, safe=""), quote_plus(password)} | {
        base64.b64encode(password.encode()).decode()
    }


class TestWrongPassword:
    @pytest.mark.parametrize("user", ["owner@example.org", "nobody"])
    def test_is_sent_twice_at_most_and_never_again(self, archive, ask, user):
        service = make_irsa((user, "wrong"))
        for _ in range(3):
            with pytest.raises(WrongPassword, match="check user name and password"):
                ask(service)
        assert len(archive.log) == len(log_ins(archive)) == 2

    def test_of_the_environment(self, archive, proprietary, monkeypatch, owner):
        monkeypatch.setenv(USER_VARIABLE, owner[0])
        monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
        service = make_irsa()
        for _ in range(2):
            with pytest.raises(WrongPassword):
                service.get_cutout(proprietary, *position(proprietary))
        assert len(log_ins(archive)) == 2

    @pytest.mark.parametrize("kind", ["html200", "http503", "truncated"])
    def test_is_not_what_a_faulty_log_in_means(self, archive, ask, owner, kind):
        archive.inject(kind, where=lambda request: request.path.endswith("login.do"))
        assert len(ask(make_irsa(owner)))
        assert len(log_ins(archive)) == 2

    @pytest.mark.parametrize("kind", ["http503", "reset"])
    def test_is_not_what_a_log_in_out_of_order_means(self, archive, ask, owner, kind):
        archive.faults.rate, archive.faults.kinds = 1.0, (kind,)
        archive.faults.where = lambda request: request.path.endswith("login.do")
        service = make_irsa(owner)
        with pytest.raises(Unreachable, match="the log-in"):
            ask(service)
        archive.faults.rate = 0.0
        assert len(ask(service))


class TestMissingAccount:
    def test_proprietary_image_needs_one_and_nobody_is_prompted(self, archive, proprietary):
        with pytest.raises(MissingAccount, match=f"register.*{USER_VARIABLE}"):
            make_irsa().get_cutout(proprietary, *position(proprietary))
        assert not log_ins(archive)

    def test_whole_proprietary_image_needs_one(self, archive, proprietary):
        with pytest.raises(MissingAccount, match="sciimg.fits: IRSA wants an account"):
            make_irsa().get_image(proprietary)

    @pytest.mark.parametrize("name", [USER_VARIABLE, PASSWORD_VARIABLE])
    def test_half_set_environment(self, archive, proprietary, monkeypatch, owner, name):
        store(*owner)
        monkeypatch.setenv(name, "some&secret")
        with pytest.raises(MissingAccount, match="only one is set") as caught:
            make_irsa().get_cutout(proprietary, *position(proprietary))
        assert "some&secret" not in everything_said(caught.value)

    @pytest.mark.parametrize(
        "content",
        [
            "[irsa]\nusername = someone\n",
            "[irsa]\npassword = b'{secret}'\n",
            "[irsa]\nusername = someone\npassword = b'abc'\n",
            "[irsa]\nusername = someone\npassword = b'/////w=='\n",
            "[irsa]\nusername = %%%\npassword = b'{secret}'\n",
            "[irsa]\nusername = a\nusername = {secret}\n",
            "username = a\npassword = {secret}\n",
            "[irsa\n{secret}\n",
        ],
    )
    def test_damaged_store(self, no_account, content):
        secret = base64.b64encode(b"stored&secret").decode()
        Path(ztfquery.io._ENCRYPT_FILE).write_text(content.format(secret=secret))
        with pytest.raises(MissingAccount, match="damaged account; store it anew") as caught:
            find_account()
        assert not any(form in everything_said(caught.value) for form in forms_of("stored&secret"))

    def test_store_that_is_no_text_is_damaged(self, no_account):
        Path(ztfquery.io._ENCRYPT_FILE).write_bytes(b"\xff\xfe\x00binary")
        with pytest.raises(MissingAccount, match="damaged account"):
            find_account()

    def test_store_of_other_accounts_holds_none(self, no_account):
        Path(ztfquery.io._ENCRYPT_FILE).write_text("[ztfops]\nusername = a\npassword = b'YQ=='\n")
        assert find_account() is None

    def test_store_with_an_empty_password_holds_a_damaged_account(self, no_account):
        store("someone", "")
        with pytest.raises(MissingAccount, match="damaged account"):
            find_account()


class TestProprietaryData:
    @pytest.mark.parametrize("whole", [False, True])
    def test_account_without_rights(self, archive, proprietary, guest, whole):
        service = make_irsa(guest)
        with pytest.raises(ProprietaryData, match="refuses .* to this account"):
            if whole:
                service.get_image(proprietary)
            else:
                service.get_cutout(proprietary, *position(proprietary))

    def test_is_not_what_two_ended_sessions_mean(self, archive, public, owner):
        archive.inject("expired_session", times=2)
        assert make_irsa(owner).get_cutout(public, *position(public))

    def test_is_what_it_means_that_no_session_is_accepted(self, archive, public, owner):
        archive.inject("expired_session", times=LOG_INS + 1)
        with pytest.raises(ProprietaryData):
            make_irsa(owner).get_cutout(public, *position(public))
        assert len(log_ins(archive)) == LOG_INS + 1


class TestOtherErrors:
    def test_nothing_found(self, archive, public):
        with pytest.raises(NothingFound, match="seeing<0.5.*an account may show more"):
            make_irsa().search_images(*position(public), 0.1, max_seeing=0.5)

    def test_nothing_found_with_account(self, archive, public, owner):
        with pytest.raises(NothingFound) as caught:
            make_irsa(owner).search_images(*position(public), 0.1, max_seeing=0.5)
        assert "account" not in str(caught.value)

    def test_every_exception_is_of_its_own_kind(self):
        kinds = [WrongPassword, MissingAccount, ProprietaryData, NothingFound, Unreachable, BadAnswer]
        assert not [(a, b) for a in kinds for b in kinds if a is not b and issubclass(a, b)]
        assert all(issubclass(kind, ServiceError) for kind in kinds)


class TestCredentials:
    def get(self, archive, image, auth=None):
        archive.log.clear()
        return make_irsa(auth).get_cutout(image, *position(image))

    def test_of_the_environment(self, archive, proprietary, monkeypatch, owner):
        monkeypatch.setenv(USER_VARIABLE, owner[0])
        monkeypatch.setenv(PASSWORD_VARIABLE, owner[1])
        assert self.get(archive, proprietary)
        assert len(log_ins(archive)) == 1

    def test_of_the_store_of_ztfquery(self, archive, proprietary, owner):
        store(*owner)
        assert self.get(archive, proprietary)
        assert log_ins(archive)[0].args["josso_username"] == owner[0]

    def test_given_come_before_environment_and_these_before_the_store(
        self, archive, monkeypatch, owner, guest
    ):
        store("stored", "secret")
        assert find_account() == ("stored", "secret")
        monkeypatch.setenv(USER_VARIABLE, guest[0])
        monkeypatch.setenv(PASSWORD_VARIABLE, guest[1])
        assert find_account() == guest
        assert self.get(archive, archive.sky.images.iloc[5], auth=owner)
        assert {record.args["josso_username"] for record in log_ins(archive)} == {owner[0]}

    def test_public_images_are_asked_anonymously_even_if_an_account_is_known(
        self, archive, public, monkeypatch, owner
    ):
        monkeypatch.setenv(USER_VARIABLE, owner[0])
        monkeypatch.setenv(PASSWORD_VARIABLE, owner[1])
        service = make_irsa()
        service.search_images(*position(public), 0.1)
        service.get_cutout(public, *position(public))
        assert not log_ins(archive)
        assert not any(record.signed_on for record in archive.log)
        assert repr(service) == "Irsa(anonymous)"

    def test_search_without_public_images_is_repeated_with_the_account(self, archive, monkeypatch, owner):
        monkeypatch.setenv(USER_VARIABLE, owner[0])
        monkeypatch.setenv(PASSWORD_VARIABLE, owner[1])
        image = archive.sky.images.iloc[5]
        monkeypatch.setitem(archive.ibe._images, "proprietary", True)
        images = make_irsa().search_images(*position(image), 0.1)
        assert len(images)
        assert len(log_ins(archive)) == 1

    def test_account_shows_more_images(self, archive, proprietary, owner):
        centre = position(proprietary)
        assert (
            len(make_irsa(owner).search_images(*centre, 0.1))
            == len(make_irsa().search_images(*centre, 0.1)) + 1
        )

    def test_kept_searches_with_and_without_a_session_are_not_confused(
        self, archive, proprietary, monkeypatch, owner, tmp_path
    ):
        cache, centre = tmp_path / "cache", position(proprietary)
        monkeypatch.setenv(USER_VARIABLE, owner[0])
        monkeypatch.setenv(PASSWORD_VARIABLE, owner[1])
        service = make_irsa(cache=cache)
        service.get_cutout(proprietary, *centre)  # logs in
        with_account = service.search_images(*centre, 0.1)
        monkeypatch.delenv(USER_VARIABLE)
        monkeypatch.delenv(PASSWORD_VARIABLE)
        assert len(make_irsa(cache=cache).search_images(*centre, 0.1)) == len(with_account) - 1


class TestSession:
    def test_that_ended_is_opened_anew_once(self, archive, proprietary, owner):
        service = make_irsa(owner)
        service.get_cutout(proprietary, *position(proprietary))
        archive.expire_sessions()
        archive.log.clear()
        assert service.get_cutout(proprietary, *position(proprietary))
        assert [record.status for record in archive.log] == [401, 200, 200]
        assert len(log_ins(archive)) == 1

    def test_serves_all_further_requests(self, archive, proprietary, public, owner):
        service = make_irsa(owner)
        for image in (proprietary, public, proprietary):
            service.get_cutout(image, *position(image))
        assert len(log_ins(archive)) == 1
        assert all(record.signed_on for record in archive.log[1:])

    def test_password_changed_meanwhile_is_not_sent_on_and_on(self, archive, proprietary, owner, monkeypatch):
        service = make_irsa(owner)
        service.get_cutout(proprietary, *position(proprietary))
        monkeypatch.setitem(archive.ibe.accounts, owner[0], ("changed", True))
        archive.expire_sessions()
        archive.log.clear()
        for _ in range(3):
            with pytest.raises((WrongPassword, BadAnswer)):
                service.get_cutout(proprietary, *position(proprietary))
        assert len(log_ins(archive)) <= LATER_REFUSALS


class TestSecrets:
    def failures(self, archive, proprietary, owner, guest):
        """Yield services with planted passwords that are bound to fail, and the failing calls."""
        wrong = (owner[0], owner[1] + "wrong")
        for auth, kind in [(wrong, None), (guest, None)] + [
            (owner, kind) for kind in ("http503", "html200", "reset", "truncated", "http429")
        ]:
            archive.faults.rate, archive.faults.kinds = float(kind is not None), (kind or "reset",)
            service = make_irsa(auth)
            yield auth[1], lambda service=service: service.get_cutout(proprietary, *position(proprietary))
            if auth != guest:
                service = make_irsa(auth)
                yield (
                    auth[1],
                    lambda service=service: service.search_images(
                        *position(proprietary), 0.1, max_seeing=0.1
                    ),
                )

    def test_password_is_in_no_exception_no_log_and_no_output(
        self, archive, proprietary, owner, guest, caplog, capsys
    ):
        caplog.set_level(logging.DEBUG)
        said, passwords, kinds = "", set(), set()
        for password, call in self.failures(archive, proprietary, owner, guest):
            with pytest.raises(ServiceError) as caught:
                call()
            passwords.add(password)
            kinds.add(caught.type)
            said += everything_said(caught.value)
        assert {WrongPassword, ProprietaryData, Unreachable} <= kinds
        output = capsys.readouterr()
        said += caplog.text + output.out + output.err
        found = [form for password in passwords for form in forms_of(password) if form in said]
        assert found == []
        assert not re.search("JOSSO_SESSIONID=[0-9a-f]", said)

    def test_no_password_in_a_redirect_of_the_log_in(
        self, httpserver, no_account, owner, caplog, monkeypatch
    ):
        caplog.set_level(logging.DEBUG)
        login = httpserver.url_for("/login.do")
        monkeypatch.setattr(ztfquery.io, "LOGIN_URL", login)
        target = httpserver.url_for(f"/else?josso_password={quote(owner[1], safe='')}")
        httpserver.expect_request("/login.do").respond_with_data(status=302, headers={"Location": target})
        with pytest.raises(ServiceError) as caught:
            make_irsa(owner).search_images(1, 1, 1)
        ours = "".join(record.getMessage() for record in caplog.records if record.name != "werkzeug")
        assert quote(owner[1], safe="") not in ours + everything_said(caught.value)


def test_answers_to_different_accounts_are_told_apart(no_account):
    keys = {Account(auth, None).cache_key for auth in (None, ("one", "secret"), ("two", "secret"))}
    assert len(keys) == 3
    assert "" in keys
    assert not any("one" in key or "secret" in key for key in keys)


def test_password_is_in_no_log_of_a_log_in_that_is_answered_with_malformed_headers(caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    page = b"HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 2\r\n\r\nhi"
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(page)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        monkeypatch.setattr(ztfquery.io, "LOGIN_URL", f"http://127.0.0.1:{listening.getsockname()[1]}/login")
        with pytest.raises(WrongPassword):
            make_irsa(("someone", "planted&secret")).search_images(6, -1, 0)
        thread.join()
    assert not re.search("planted(&|%26)secret", caplog.text)
