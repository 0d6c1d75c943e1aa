"""Mail: the digest of what is new, whom it goes to, and the links in it that only this site can have made."""

from __future__ import annotations

import hashlib
import re
import smtplib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from urllib.parse import parse_qs, urlencode, urlsplit

from itsdangerous import BadData, URLSafeSerializer, URLSafeTimedSerializer
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from tendsto.evidence.notation import to_unicode
from tendsto.site.database import Paper, StoredVerdict, Subscription, lock
from tendsto.site.search import Filters, matching
from tendsto.site.settings import MailServer
from tendsto.site.site import Site

_MOST = 100
_SECONDS_TO_CONFIRM = 2 * 24 * 3600
_SECONDS_TO_ANSWER = 30
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_LONGEST_ADDRESS = 254


@dataclass(frozen=True)
class Digest:
    """What is new: papers, and verdicts on claims; `more` says that more papers are new than are named."""

    papers: Sequence[Paper]
    verdicts: Sequence[StoredVerdict]
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.papers or self.verdicts)


# --- what is new


def since(session: Session, day: date, query: str = "", filters: Filters | None = None) -> Digest:
    """The papers listed on `day` or later, and the verdicts that were reached since."""
    newest = matching(session, query, filters or Filters(), _MOST + 1)
    found = [it for it in newest if it.listed and it.listed >= day]
    rows = select(StoredVerdict).where(StoredVerdict.finished >= day.isoformat(), StoredVerdict.current)
    verdicts = _of_these(session, rows.order_by(StoredVerdict.id), query, filters or Filters())
    return Digest(found[:_MOST], verdicts, len(found) > _MOST)


def news(session: Session, subscription: Subscription) -> Digest:
    """What the subscription asks for and was not sent yet."""
    query, filters = read_query(subscription.query)
    found = matching(session, query, filters, _MOST + 1, above=subscription.last_paper)
    rows = select(StoredVerdict).where(StoredVerdict.id > subscription.last_verdict, StoredVerdict.current)
    verdicts = _of_these(session, rows.order_by(StoredVerdict.id), query, filters)
    return Digest(found[:_MOST], verdicts, len(found) > _MOST)


def _of_these(session: Session, rows: Select[StoredVerdict], query: str, filters: Filters) -> Sequence[StoredVerdict]:
    found = session.scalars(rows.limit(_MOST)).all()
    if not query and filters == Filters():
        return found
    slugs = {paper.slug for paper in matching(session, query, filters, 10 * _MOST)}
    return [row for row in found if row.paper in slugs]


def write_query(query: str, filters: Filters) -> str:
    """A search as a subscription keeps it: the query of its address."""
    return urlencode(({"q": query} if query.strip() else {}) | filters.chosen)


def read_query(text: str) -> tuple[str, Filters]:
    """The search that `write_query` wrote."""
    values = {name: items[0] for name, items in parse_qs(text).items()}
    query = values.pop("q", "")
    year, seconds = values.pop("year", None), values.pop("seconds", None)
    return query, Filters(
        **values,
        year=int(year) if year else None,
        seconds=float(seconds) if seconds else None,
    )


# --- the mail


def compose(site: Site, digest: Digest, *, recipient: str = "", unsubscribe: str = "", query: str = "") -> bytes:
    """The digest as a mail in plain text and HTML; equal digests give equal bytes.

    Its date is that of the newest thing in it, not that of its writing.
    """
    address, host = site.settings.address, urlsplit(site.settings.address).hostname
    counted = [_count(len(digest.papers), "paper"), _count(len(digest.verdicts), "verdict")]
    subject = f"Tendsto: {' and '.join(filter(None, counted)) or 'nothing new'}"
    context = {
        "digest": digest,
        "address": address,
        "unsubscribe": unsubscribe,
        "query": query,
        "plain": _plain,
        "newest": _newest(digest).date(),
    }
    text, page = (site.render(f"digest.{kind}.jinja", **context) for kind in ("txt", "html"))
    name = hashlib.sha256("\0".join([recipient, subject, text]).encode()).hexdigest()[:32]
    message = EmailMessage(SMTP)
    message["Subject"] = subject
    message["From"] = Address(
        "Tendsto", addr_spec=site.settings.mail.sender if site.settings.mail else f"tendsto@{host}"
    )
    if recipient:
        message["To"] = Address(addr_spec=recipient)
    message["Date"] = format_datetime(_newest(digest))
    message["Message-ID"] = f"<{name}@{host}>"
    if unsubscribe:
        message["List-Unsubscribe"] = f"<{unsubscribe}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(text)
    message.add_alternative(page, subtype="html")
    message.set_boundary(f"=_{name}")
    return message.as_bytes()


def _plain(text: str) -> str:
    return to_unicode(" ".join(text.split()))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}" if number else ""


def _newest(digest: Digest) -> datetime:
    days = [paper.listed or paper.added.date() for paper in digest.papers]
    moments = [datetime.combine(day, time(), UTC) for day in days]
    moments += [datetime.fromisoformat(verdict.finished) for verdict in digest.verdicts]
    return max(moments, default=datetime.fromtimestamp(0, UTC))


def send(server: MailServer, message: bytes, recipient: str) -> None:
    """Hand a mail in.

    **Raises** `OSError` (with `smtplib.SMTPException` among them) if the server does not take it.
    """
    kind = smtplib.SMTP_SSL if server.encryption == "tls" else smtplib.SMTP
    with kind(server.host, server.port, timeout=_SECONDS_TO_ANSWER) as connection:
        if server.encryption == "starttls":
            connection.starttls()
        if server.user:
            connection.login(server.user, server.password)
        connection.sendmail(server.sender, [recipient], message)


def send_news(site: Site, on_failure: Callable[[str, OSError], None]) -> int:
    """Send each subscriber what is new to them; return how many mails went out.

    What was sent is noted after each mail, so that a second run, or one after a crash, sends nothing twice. An address
    whose mail is not taken is told to `on_failure`, and gets it with the next run.
    """
    server, sent = site.settings.mail, 0
    if server is None:
        raise ValueError("smtp: there is no mail server to hand the digest to")
    with Session(site.engine, expire_on_commit=False) as session:
        for subscription in session.scalars(select(Subscription).order_by(Subscription.id)).all():
            paper, verdict = newest_identities(session)
            digest = news(session, subscription)
            if digest:
                link = unsubscribe_link(site, subscription.address, subscription.query)
                query, _ = read_query(subscription.query)
                message = compose(site, digest, recipient=subscription.address, unsubscribe=link, query=query)
                try:
                    send(server, message, subscription.address)
                except OSError as error:
                    on_failure(subscription.address, error)
                    continue
                sent += 1
            subscription.last_paper, subscription.last_verdict = paper, verdict
            session.commit()
    return sent


def newest_identities(session: Session) -> tuple[int, int]:
    """The identities of the newest paper and the newest verdict."""
    paper, verdict = session.execute(
        select(select(func.max(Paper.id)).scalar_subquery(), select(func.max(StoredVerdict.id)).scalar_subquery())
    ).one()
    return paper or 0, verdict or 0


# --- who subscribes


def check_address(text: str) -> str:
    """The mail address in `text`.

    **Raises** `ValueError` if it is none.
    """
    address = text.strip()
    if len(address) > _LONGEST_ADDRESS or not _MAIL.fullmatch(address):
        raise ValueError("this is not a mail address")
    return address


def ask_to_confirm(site: Site, address: str, query: str) -> None:
    """Mail a link that confirms the subscription; nothing is stored until it is followed.

    **Raises** `OSError` if the server does not take the mail; `ValueError` if there is none.
    """
    server = site.settings.mail
    if server is None:
        raise ValueError("smtp: this site sends no mail")
    token = _confirming(site).dumps([address, query])
    link = f"{site.settings.address}/subscribe/confirm/{token}"
    message = EmailMessage(SMTP)
    message["Subject"] = "Tendsto: confirm your subscription"
    message["From"] = Address("Tendsto", addr_spec=server.sender)
    message["To"] = Address(addr_spec=address)
    message["Date"] = format_datetime(datetime.now(UTC))
    message.set_content(
        "Someone, perhaps you, asked for the digest of Tendsto to be sent to this address"
        f"{f' for the search {parse_qs(query)}' if query else ''}.\n\nTo confirm, open\n\n{link}\n\n"
        "within two days. If it was not you, do nothing: the address is not stored.\n",
        cte="quoted-printable",
    )
    send(server, message.as_bytes(), address)


def read_confirmation(site: Site, token: str) -> tuple[str, str] | None:
    """The address and the search that a link of the last two days confirms."""
    try:
        address, query = _confirming(site).loads(token, max_age=_SECONDS_TO_CONFIRM)
        return str(address), str(query)
    except (BadData, ValueError):
        return None


def subscribe(session: Session, address: str, query: str) -> None:
    """Store a confirmed subscription; what is listed already is not news to it."""
    lock(session, Subscription)
    known = select(Subscription).where(Subscription.address == address, Subscription.query == query)
    if session.scalars(known).first() is None:
        paper, verdict = newest_identities(session)
        session.add(Subscription(address=address, query=query, last_paper=paper, last_verdict=verdict))
    session.commit()


def unsubscribe_link(site: Site, address: str, query: str) -> str:
    """The link that ends a subscription."""
    return f"{site.settings.address}/unsubscribe/{_leaving(site).dumps([address, query])}"


def unsubscribe(site: Site, session: Session, token: str) -> bool:
    """Delete the subscription of an `unsubscribe_link`, and with it the address; False if the link is none of ours."""
    try:
        address, query = _leaving(site).loads(token)
    except (BadData, ValueError):
        return False
    for found in session.scalars(
        select(Subscription).where(Subscription.address == str(address), Subscription.query == str(query))
    ):
        session.delete(found)
    session.commit()
    return True


def _confirming(site: Site) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(site.settings.secret("secret"), salt="confirm")


def _leaving(site: Site) -> URLSafeSerializer:
    return URLSafeSerializer(site.settings.secret("secret"), salt="unsubscribe")
