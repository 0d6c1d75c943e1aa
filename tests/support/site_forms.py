"""Fill in the forms of a page without a browser."""

from __future__ import annotations

from lxml import html


def submit(client, address: str, action: str, /, **values: str):
    """Open the page at `address`, fill in the form that goes to `action`, and send it."""
    page = html.fromstring(client.get(address).raise_for_status().text)
    form = page.xpath("//form[@action=$action][@method='post']", action=action)[0]
    fields = dict(form.form_values()) | values
    return client.post(action, data=fields, follow_redirects=False)
