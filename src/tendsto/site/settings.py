"""What a site is told when it starts, and the secrets that it keeps for itself."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from tendsto.evidence.claim import BudgetName

LOOPBACK = ("127.0.0.1", "localhost")
_OWNER_ALONE = 0o600
_DATABASES = ("postgresql", "postgresql+psycopg", "postgres")


@dataclass(frozen=True)
class MailServer:
    """Where mail is handed in, and whom it is from."""

    host: str
    port: int
    sender: str
    user: str = ""
    password: str = field(default="", repr=False)
    encryption: Literal["none", "starttls", "tls"] = "none"

    @classmethod
    def from_address(cls, address: str, sender: str) -> MailServer:
        """The server behind `smtp://host:port`, `smtp+starttls://user:password@host` or `smtps://…`.

        A user's name and password are written as in any address: `%40` stands for the character @ in them.

        **Raises** `ValueError` if `address` is anything else, or `sender` is no mail address.
        """
        parts = urlsplit(address)
        known: dict[str, tuple[Literal["none", "starttls", "tls"], int]] = {
            "smtp": ("none", 25),
            "smtp+starttls": ("starttls", 587),
            "smtps": ("tls", 465),
        }
        if parts.scheme not in known or not parts.hostname:
            raise ValueError(
                f"smtp: {address!r} is not an address such as smtp://localhost:25 or smtps://user:pass@host"
            )
        if "@" not in sender or any(character.isspace() for character in sender):
            raise ValueError(f"sender: {sender!r} is not a mail address")
        encryption, port = known[parts.scheme]
        user, password = (unquote(it or "") for it in (parts.username, parts.password))
        return cls(parts.hostname, parts.port or port, sender, user, password, encryption)


@dataclass(frozen=True)
class Settings:
    """A site: its folder, where it listens, and what it lets visitors do.

    **Arguments**

    - `folder`: the verdicts, as `tendsto check --out` writes them, beside the site's database and secrets.
    - `host`, `port`: where it listens; any host but this machine itself needs `public`.
    - `public`: others can reach it, so running a claim asks for the administrator's token.
    - `address`: how others reach it ("https://papers.example.org"), for links in mails and feeds.
    - `mail`: where mail is handed in; without, nobody can subscribe by mail.
    - `workers`: how many claims run at a time.
    - `largest_budget`: what a visitor may spend on one run at most.
    - `database`: the PostgreSQL database that holds papers, queue and subscriptions
      ("postgresql://user:password@host/name"); without, they are in a file in `folder`.

    **Raises** `ValueError` for a host that others can reach without `public`, or an address that is none.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8000
    public: bool = False
    address: str = ""
    mail: MailServer | None = None
    workers: int = 1
    largest_budget: BudgetName = "full"
    database: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.public:
            raise ValueError(f"host: {self.host} can be reached by others, which needs --public")
        if self.workers < 1:
            raise ValueError(f"workers: must be at least 1, got {self.workers}")
        address = (self.address or f"http://{self.host}:{self.port}").rstrip("/")
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.path:
            raise ValueError(f"address: {self.address!r} is not an address such as https://papers.example.org")
        object.__setattr__(self, "address", address)
        if self.database and urlsplit(self.database).scheme not in _DATABASES:
            raise ValueError("database: it is not an address such as postgresql://user:password@host/name")

    @property
    def hosts(self) -> list[str]:
        """The names under which requests are answered; any other name is a stranger's, pointed at this machine."""
        return [*LOOPBACK, str(urlsplit(self.address).hostname)] + [self.host] * (self.host not in ("0.0.0.0", "::"))

    def secret(self, name: Literal["secret", "admin-token"]) -> str:
        """The secret in the file `site.NAME`, made when first asked for and readable by its owner alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"site.{name}"
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        if not path.exists():
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ALONE), "w") as stream:
                stream.write(secrets.token_urlsafe(32))
            try:
                os.link(temporary, path)  # whoever is first wins; nobody sees half a secret
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        return path.read_text()
