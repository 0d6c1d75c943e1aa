"""The front page: a dated feed of papers with search, a page for each, and a button that runs each claim."""
