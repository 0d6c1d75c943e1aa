"""Bring the database up to date with the catalogue and with the verdicts in the store."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sqlalchemy import delete, func, or_, select, text, update
from sqlalchemy.orm import Session, selectinload

from tendsto.evidence import Budget, Store, Verdict
from tendsto.listing import Listed
from tendsto.papers import Entry
from tendsto.site.database import Claim, Paper, StoredVerdict, Tag, VerdictFile, lock, now, write_text
from tendsto.site.formats import Imported

_BATCH = 500


def list_catalogue(session: Session, papers: Mapping[str, Entry], listing: Mapping[str, Listed]) -> None:
    """List every paper of the feed and of the catalogue; one that left them goes, one whose words changed is noted.

    A card shows what the feed prints; a paper that is in the catalogue alone shows its own card.
    """
    lock(session, Paper, StoredVerdict)
    known = {
        paper.slug: paper
        for paper in session.scalars(
            select(Paper).where(Paper.slug.is_not(None)).options(selectinload(Paper.claims), selectinload(Paper.tags))
        )
    }
    slugs = dict.fromkeys([*listing, *papers])
    for slug in known.keys() - slugs.keys():
        _forget(session, known[slug])
    changed = []
    for slug in slugs:
        listed, entry = listing.get(slug), papers.get(slug)
        paper = known.get(slug) or _new(session, slug, listed.arxiv if listed else papers[slug].card.arxiv)
        before = _words(paper) if slug in known else None
        paper.slug = paper.key = slug
        if listed:
            _print(listed, paper)
        elif entry:
            _show(entry, paper)
        claims = {claim.name: claim for claim in paper.claims}
        for name, claim in (entry.claims if entry else {}).items():
            row = claims.get(name) or Claim(name=name)
            row.statement, row.source, row.evidence = claim.statement, claim.source, claim.evidence
            claims[name] = row
        paper.claims = [claims[name] for name in (entry.claims if entry else ())]
        if _words(paper) != before:
            paper.changed += 1
            changed.append(paper)
    session.flush()
    write_text(session, changed)
    _rule(session)


def _print(listed: Listed, paper: Paper) -> None:
    paper.arxiv, paper.title, paper.abstract, paper.field = listed.arxiv, listed.title, listed.summary, listed.field
    paper.authors, paper.author_count = list(listed.authors), listed.author_count
    paper.organization, paper.comments = listed.organization, paper.comments or listed.comments
    paper.published = paper.listed = listed.date
    paper.tags = _tags(paper, listed.tags)


def _show(entry: Entry, paper: Paper) -> None:
    card = entry.card
    paper.arxiv, paper.title, paper.abstract, paper.field = card.arxiv, card.title, entry.summary, card.field
    paper.authors, paper.author_count, paper.organization = list(card.authors), len(card.authors), None
    paper.published = paper.listed = card.date
    paper.tags = _tags(paper, [card.field])


def _new(session: Session, slug: str, arxiv: str) -> Paper:
    """The row for a paper that enters the catalogue: that of its import, if it was imported before."""
    paper = session.scalars(select(Paper).where(Paper.arxiv == arxiv, Paper.slug.is_(None))).first()
    if paper is None:
        paper = Paper(key=slug, comments=0, upvotes=0, extra={}, added=now(), changed=0)
        session.add(paper)
    return paper


def _forget(session: Session, paper: Paper) -> None:
    session.execute(text("DELETE FROM paper_text WHERE rowid = :rowid"), {"rowid": paper.id})
    session.delete(paper)


def _words(paper: Paper) -> tuple[object, ...]:
    return paper.title, paper.abstract, tuple(paper.authors), tuple(claim.statement for claim in paper.claims)


def _tags(paper: Paper, names: Iterable[str]) -> list[Tag]:
    kept = {tag.name: tag for tag in paper.tags}
    return [kept.get(name) or Tag(name=name) for name in dict.fromkeys(names)]


def take_in(session: Session, papers: Iterable[Imported]) -> Counter[str]:
    """List imported papers; count those that are `new`, `updated`, or only `counted` because the catalogue has them.

    Of a paper of the catalogue an import changes the numbers of comments and votes alone.
    """
    lock(session, Paper)
    counts: Counter[str] = Counter()
    for batch in _batches(papers):
        wanted = {paper.key: paper for paper in batch}
        found = session.scalars(
            select(Paper)
            .where(or_(Paper.key.in_(wanted), Paper.arxiv.in_(wanted)))
            .options(selectinload(Paper.tags), selectinload(Paper.claims))
        )
        known = {paper.arxiv if paper.arxiv in wanted else paper.key: paper for paper in found}
        changed = []
        for key, listed in wanted.items():
            paper = known.get(key)
            if paper is not None and paper.slug:
                paper.comments, paper.upvotes = listed.comments or paper.comments, listed.upvotes or paper.upvotes
                counts["counted"] += 1
                continue
            counts["new" if paper is None else "updated"] += 1
            if paper is None:
                paper = Paper(key=key, field="", added=now(), changed=0)
                session.add(paper)
            _copy(listed, paper)
            changed.append(paper)
        session.flush()
        write_text(session, changed)
    return counts


def _batches(papers: Iterable[Imported]) -> Iterator[list[Imported]]:
    waiting = iter(papers)
    while batch := list(itertools.islice(waiting, _BATCH)):
        yield batch


def _copy(listed: Imported, paper: Paper) -> None:
    paper.arxiv, paper.title, paper.abstract = listed.arxiv, listed.title, listed.abstract
    paper.authors, paper.author_count = list(listed.authors), len(listed.authors) or None
    paper.organization, paper.published, paper.listed = listed.organization, listed.published, listed.listed
    paper.comments, paper.upvotes, paper.extra = listed.comments, listed.upvotes, dict(listed.extra)
    paper.tags, paper.changed = _tags(paper, listed.tags), paper.changed + 1


def read_verdicts(session: Session, store: Store) -> int:
    """Take over the verdicts that are new or gone in `store`; return how many are new.

    Files that have not changed are not read. A verdict that another one of the same claim, budget and seed replaces
    stays as history.
    """
    found = {str(path.relative_to(store.folder)): path for path in store.folder.glob("verdicts/*/*.json")}
    stamps = {name: stamp for name, path in found.items() if (stamp := _stamp(path))}
    if stamps == _files(session):
        return 0
    lock(session, StoredVerdict)
    known, fresh = _files(session), 0
    for name, stamp in stamps.items():
        if known.get(name) == stamp:
            continue
        session.merge(VerdictFile(path=name, stamp=stamp))
        verdict = _read(found[name])
        fresh += verdict is not None and _keep(session, verdict)
    for name in known.keys() - found.keys():
        folder, file = Path(name).parts[-2:]
        claim, budget, seed = file.removesuffix(".json").rsplit(".", 2)
        session.execute(
            update(StoredVerdict)
            .where(
                StoredVerdict.paper == folder,
                StoredVerdict.claim == claim,
                StoredVerdict.budget == budget,
                StoredVerdict.seed == int(seed),
            )
            .values(current=False)
        )
        session.execute(delete(VerdictFile).where(VerdictFile.path == name))
    if fresh or known.keys() - found.keys():
        _rule(session)
    return fresh


def _files(session: Session) -> dict[str, str]:
    """The files of the store as they were last read, and their stamps."""
    return {row.path: row.stamp for row in session.execute(select(VerdictFile.path, VerdictFile.stamp))}


def _stamp(path: Path) -> str | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{status.st_mtime_ns}-{status.st_size}"


def _read(path: Path) -> Verdict | None:
    try:
        return Verdict.from_json(json.dumps(json.loads(path.read_bytes())["verdict"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _keep(session: Session, verdict: Verdict) -> bool:
    same = (
        StoredVerdict.paper == verdict.paper,
        StoredVerdict.claim == verdict.claim,
        StoredVerdict.budget == verdict.budget,
        StoredVerdict.seed == verdict.seed,
    )
    session.execute(update(StoredVerdict).where(*same).values(current=False))
    row = session.scalars(select(StoredVerdict).where(*same, StoredVerdict.finished == verdict.finished)).first()
    new = row is None
    if row is None:
        row = StoredVerdict(
            paper=verdict.paper,
            claim=verdict.claim,
            budget=verdict.budget,
            seed=verdict.seed,
            finished=verdict.finished,
        )
        session.add(row)
    row.ruling, row.seconds, row.body = verdict.verdict, verdict.seconds, verdict.to_json()
    row.current, row.outdated = True, None
    session.flush()
    return new


def _rule(session: Session) -> None:
    """Note on each claim what its last verdict says."""
    last: dict[tuple[str, str], StoredVerdict] = {}
    rows = session.scalars(
        select(StoredVerdict).where(StoredVerdict.current).order_by(StoredVerdict.finished, StoredVerdict.id)
    )
    for row in rows:
        last[row.paper, row.claim] = row
    for claim, slug in session.execute(select(Claim, Paper.slug).join(Paper, Paper.id == Claim.paper_id)):
        verdict = last.get((slug or "", claim.name))
        claim.ruling, claim.seconds = (verdict.ruling, verdict.seconds) if verdict else ("not run", None)


def count_papers(session: Session) -> int:
    """How many papers are listed."""
    return session.scalar(select(func.count(Paper.id))) or 0


def stamp(session: Session) -> str:
    """What changes when a paper comes, goes, or has its words changed."""
    return "-".join(
        str(value)
        for value in session.execute(select(func.count(Paper.id), func.max(Paper.id), func.sum(Paper.changed))).one()
    )


def texts(session: Session) -> Iterator[tuple[int, str]]:
    """The identity of each paper and all that is said in it: its title, twice, its abstract and its claims."""
    claims: dict[int, list[str]] = {}
    for identity, statement in session.execute(select(Claim.paper_id, Claim.statement).order_by(Claim.id)):
        claims.setdefault(identity, []).append(statement)
    rows = session.execute(
        select(Paper.id, Paper.title, Paper.abstract).order_by(Paper.id).execution_options(yield_per=2000)
    )
    for identity, title, abstract in rows:
        yield identity, "\n".join([title, title, abstract, *claims.get(identity, [])])


def audit(session: Session, store: Store, papers: Mapping[str, Entry]) -> bool:
    """Look whether the code or the libraries behind one verdict have changed since; False if all were looked at."""
    row = session.scalars(select(StoredVerdict).where(StoredVerdict.current, StoredVerdict.outdated.is_(None))).first()
    if row is None:
        return False
    row.outdated = _is_outdated(store, papers, row)
    return True


def _is_outdated(store: Store, papers: Mapping[str, Entry], row: StoredVerdict) -> bool:
    claim = papers[row.paper].claims.get(row.claim) if row.paper in papers else None
    if claim is None:
        return True
    return row.ruling != "not run" and store.load(claim, Budget(row.budget, row.seed)) is None  # type: ignore[arg-type]
