"""Search and recommendation: what is found, and what is not where nothing can be."""

from __future__ import annotations

import pytest
from benchmarks.site.quality import PARAPHRASES, measure, shuffled

from tendsto.listing import listing


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return measure(tmp_path_factory.mktemp("quality"))


def test_titles_with_words_left_out_are_found_first(numbers):
    assert numbers["titles found first"] >= 48


def test_paraphrases_are_found_by_words_by_meaning_and_by_both(numbers):
    assert len(PARAPHRASES) == 20
    assert numbers["paraphrases, recall at 5"] >= 0.8
    assert numbers["paraphrases, recall at 5, words alone"] >= 0.8
    assert numbers["paraphrases, recall at 5, meaning alone"] >= 0.8


def test_with_the_texts_shuffled_paraphrases_find_nothing(numbers):
    mixed = shuffled(listing())
    assert all(mixed[slug].title != paper.title for slug, paper in listing().items())
    assert numbers["control: recall at 5 with texts shuffled"] < 0.3


def test_recommendations_follow_topics_and_not_random_tags(numbers):
    assert numbers["recommendation, area under the curve, mean"] >= 0.9
    assert 0.4 <= numbers["control: area under the curve, random tags"] <= 0.6
