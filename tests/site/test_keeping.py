"""What is kept is forgotten when anyone writes to the database."""

from __future__ import annotations

import subprocess
import sys

from sqlalchemy import update
from sqlalchemy.orm import Session

from tendsto.site.database import Paper


def test_a_value_is_made_once_until_the_database_changes(site):
    made = []

    def look(key="a") -> int:
        return site.kept.get(key, lambda: made.append(key) or len(made))

    assert [look(), look(), look("b"), look()] == [1, 1, 2, 1]
    with Session(site.engine) as session:
        session.execute(update(Paper).values(comments=7))
        assert look() == 1  # nothing is written yet
        session.commit()
    assert [look(), look()] == [3, 3]
    write = (
        "import sys, sqlalchemy as sql\n"
        "with sql.create_engine(sys.argv[1]).begin() as c: c.execute(sql.text('UPDATE paper SET upvotes = 8'))"
    )
    subprocess.run([sys.executable, "-c", write, site.engine.url.render_as_string(hide_password=False)], check=True)
    assert [look(), look("b")] == [4, 5]


def test_what_was_made_of_an_older_state_is_not_kept(site):
    def make() -> str:
        with Session(site.engine) as session, session.begin():
            session.execute(update(Paper).values(comments=7))
        site.kept.get("another reader", str)
        return "old"

    assert site.kept.get("a", make) == "old"
    assert site.kept.get("a", lambda: "new") == "new"


def test_a_page_that_is_kept_follows_what_is_written_and_has_its_visitor_s_own_token(site, client):
    first = client.get("/papers/toy-sums").text
    assert client.get("/papers/toy-sums").text == first
    other = type(client)(client.app, base_url=site.settings.address)
    assert other.get("/papers/toy-sums").text != first
    with Session(site.engine) as session:
        session.execute(update(Paper).where(Paper.slug == "dser").values(title="Another title"))
        session.commit()
    assert "Another title" in client.get("/").text
