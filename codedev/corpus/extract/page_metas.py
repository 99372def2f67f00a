"""Which meta tags of a page are read, by their names.

Facts about the page are told under one name among several in property, name, itemprop or http-equiv; directives and licences under the
whole of `name` alone.
"""

from __future__ import annotations

from codedev.corpus.extract import page_rights
from codedev.corpus.extract.page_nodes import Nodes
from codedev.kernels import htmlfind
from codedev.kernels.htmltape import Tape

# Which meta tags tell what, best first. Names are compared in lower case.
_FACTS = {
    "title": "dc:title og:title twitter:title citation_title dc.title dcterms.title parsely-title sailthru.title title headline",
    "authors": "citation_author parsely-author sailthru.author dc:creator author article:author dc.creator dcterms.creator dc.contributor "
    "og:article:author article:author_name byl author_name authors creator rbauthors",
    "published": "article:published_time og:article:published_time datepublished citation_publication_date citation_online_date "
    "parsely-pub-date sailthru.date dcterms.issued dc.date.issued dc.date dcterms.date dc:date dcterms.created dc.date.created "
    "citation_date article:published og:published_time date pubdate publishdate publish-date publish_date published_time published-date "
    "published date_published article.published article_date_original originalpublicationdate displaydate pub_date bt:pubdate "
    "og:pubdate rnews:datepublished article.created creation_date created datecreated",
    "modified": "article:modified_time og:article:modified_time datemodified dcterms.modified dc.date.modified article:modified "
    "og:updated_time last-modified lastmod revised modified_time rnews:datemodified article.updated updated_time",
    "language": "content-language og:locale dc.language dcterms.language language",
    "canonical": "og:url",
    "site": "og:site_name application-name citation_journal_title dc.publisher apple-mobile-web-app-title twitter:app:name:iphone",
    "description": "og:description description twitter:description dc.description dcterms.description",
    "type": "og:type",
    "section": "article:section og:article:section parsely-section section articlesection",
    "tags": "article:tag og:article:tag news_keywords keywords citation_keywords parsely-tags sailthru.tags dc.subject",
    "generator": "generator",
}
FACTS = [(fact, rank) for fact, names in _FACTS.items() for rank, name in enumerate(names.split())]  # by number
_NAMES = htmlfind.names((name for names in _FACTS.values() for name in names.split()), page_rights.METAS)


def nodes(tape: Tape) -> Nodes:
    """What `page_about`, `page_kind` and `page_rights` read."""
    return Nodes(tape, _NAMES)
