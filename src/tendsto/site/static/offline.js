// The search of a site that lies on a plain web host: words, ranked by field, in the browser.
const form = document.querySelector("#filters");
const results = document.querySelector("#results");

if (form && results && typeof tendstoPapers !== "undefined") {
  const weights = { title: 3, claims: 2, authors: 1, abstract: 1 };
  const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const texts = tendstoPapers.map((paper) =>
    Object.fromEntries(Object.keys(weights).map((name) => [name, plain(paper[name]).split(/[^\p{L}\p{N}]+/u)])),
  );
  const matches = (word, token) => (token.length > 3 ? word.startsWith(token) : word === token);

  const score = (place, tokens) => {
    let total = 0;
    const found = [];
    for (const [name, weight] of Object.entries(weights)) {
      const hit = tokens.filter((token) => texts[place][name].some((word) => matches(word, token)));
      total += weight * hit.length;
      if (hit.length) found.push(`${name}: ${hit.join(", ")}`);
    }
    return [total, found.join(" · ")];
  };

  const fits = (paper, asked) =>
    (!asked.get("field") || paper.field === asked.get("field")) &&
    (!asked.get("tag") || paper.tags.includes(asked.get("tag"))) &&
    (!asked.get("year") || String(paper.year) === asked.get("year")) &&
    (!asked.get("evidence") || paper.evidence.includes(asked.get("evidence"))) &&
    (!asked.get("status") || paper.status.includes(asked.get("status"))) &&
    (!asked.get("seconds") || (paper.seconds !== null && paper.seconds <= Number(asked.get("seconds"))));

  const show = () => {
    const asked = new FormData(form);
    const tokens = plain(asked.get("q")).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
    const ranked = tendstoPapers
      .map((paper, place) => [paper, ...score(place, tokens)])
      .filter(([paper, total]) => fits(paper, asked) && (!tokens.length || total > 0))
      .sort((one, other) => other[1] - one[1]);
    const count = document.createElement("p");
    count.className = "muted";
    count.textContent = `${ranked.length} found`;
    const list = ranked.map(([paper, , reason]) => {
      const entry = document.createElement("article");
      entry.className = "entry";
      const title = document.createElement("h2");
      const link = document.createElement("a");
      link.href = `../${paper.page}`;
      link.textContent = paper.title.replaceAll("$", "");
      title.append(link);
      const why = document.createElement("p");
      why.className = "reason";
      why.textContent = reason;
      const names = document.createElement("div");
      names.className = "facts";
      names.textContent = paper.authors;
      entry.append(title, names, why);
      return entry;
    });
    results.replaceChildren(count, ...list);
  };

  const asked = new URLSearchParams(location.search);
  for (const [name, value] of asked) {
    const field = form.elements.namedItem(name);
    if (field) field.value = value;
  }
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show();
  });
  if ([...asked.values()].some(Boolean)) show();
}
