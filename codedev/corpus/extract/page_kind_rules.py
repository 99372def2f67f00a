"""What speaks for each kind of page: a table that `page_kind.py` adds up. Weights are the votes of one piece of evidence.

3 is worth a page's own word that leaves little doubt, 1 a habit of such pages. They were set by hand and tuned on half of the labelled
pages (tests/golden/page_kinds.tsv).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["article", "blog", "forum", "documentation", "listing", "product", "other"]


class Rule(NamedTuple):
    source: str  # type, generator, class, host, path, title, or a count of the page
    holds: str | tuple[float, float]  # a type's name, a regular expression over small letters, or a range [from, to)
    votes: dict[Kind, float]
    why: str


_NO_END = float("inf")

RULES: tuple[Rule, ...] = (
    # --- schema.org and Open Graph: the page's own word
    Rule("type", "newsarticle", {"article": 4}, "only news says so"),
    Rule("type", "reportagenewsarticle", {"article": 4}, "only news says so"),
    Rule("type", "analysisnewsarticle", {"article": 4}, "only news says so"),
    Rule("type", "opinionnewsarticle", {"article": 4}, "only news says so"),
    Rule("type", "scholarlyarticle", {"article": 4}, "journals"),
    Rule("type", "medicalwebpage", {"article": 2}, "health magazines"),
    Rule("type", "report", {"article": 2}, "a text of its own"),
    Rule("type", "article", {"article": 1.5, "blog": 1}, "the default of WordPress plug-ins too"),
    Rule("type", "blogposting", {"blog": 2.5, "article": 0.5}, "blogs, and themes that magazines use"),
    Rule("type", "blog", {"blog": 1.5, "listing": 0.5}, "what the page belongs to, or the list of posts"),
    Rule("type", "techarticle", {"documentation": 2, "article": 1}, "manuals and tutorials"),
    Rule("type", "apireference", {"documentation": 4}, "only manuals"),
    Rule("type", "recipe", {"article": 1.5, "blog": 1}, "a text with a recipe, of a site or of a blog"),
    Rule("type", "product", {"product": 4}, "shops; a review may describe one too"),
    Rule("type", "offer", {"product": 1}, "a price"),
    Rule("type", "aggregateoffer", {"product": 1}, "prices"),
    Rule("type", "qapage", {"forum": 5}, "a question with its answers"),
    Rule("type", "discussionforumposting", {"forum": 4}, "a thread"),
    Rule("type", "answer", {"forum": 2}, "a question with its answers; FAQs have them too"),
    Rule("type", "collectionpage", {"listing": 4}, "an index"),
    Rule("type", "searchresultspage", {"listing": 5}, "an index"),
    Rule("type", "itemlist", {"listing": 1}, "an index, or a box on another page"),
    Rule("type", "profilepage", {"other": 3}, "a person"),
    Rule("type", "aboutpage", {"other": 3}, "a house"),
    Rule("type", "contactpage", {"other": 4}, "an address"),
    Rule("type", "faqpage", {"other": 1}, "service pages"),
    Rule("type", "event", {"other": 1.5}, "a date, not a text"),
    Rule("type", "og:article", {"article": 1.5, "blog": 1}, "any text, pages of WordPress too"),
    Rule("type", "og:product", {"product": 4}, "shops"),
    Rule("type", "og:product.item", {"product": 4}, "shops"),
    Rule("type", "og:website", {"other": 0.5, "listing": 0.5}, "the default for what is no article"),
    Rule("type", "og:blog", {"listing": 1, "blog": 1}, "a blog's home"),
    Rule("type", "og:profile", {"other": 2}, "a person"),
    Rule("type", "og:video", {"other": 2}, "a player"),
    # --- what made it
    Rule(
        "generator",
        r"phpbb|vbulletin|discourse|xenforo|mybb|simple machines|invision|flarum|vanilla|woltlab|nodebb",
        {"forum": 4},
        "forums",
    ),
    Rule(
        "generator",
        r"sphinx|mkdocs|docusaurus|gitbook|doxygen|javadoc|vuepress|antora|docfx|asciidoctor|rustdoc|starlight",
        {"documentation": 4},
        "manuals",
    ),
    Rule(
        "generator",
        r"woocommerce|shopify|magento|prestashop|oscommerce|opencart|shopware|xt:commerce|jtl",
        {"product": 1.5, "listing": 0.5},
        "shops",
    ),
    Rule("generator", r"blogger|typepad|movable type|tumblr|medium|ghost|serendipity", {"blog": 2}, "blogs"),
    Rule("generator", r"wordpress\.com", {"blog": 2}, "hosted blogs"),
    Rule("generator", r"wordpress", {"blog": 0.75}, "blogs first, then everything"),
    Rule("generator", r"jekyll|hugo|nikola|pelican|hexo", {"blog": 0.5}, "blogs of people who program, and their home pages"),
    Rule("generator", r"mediawiki", {"article": 2.5}, "encyclopaedias"),
    # --- classes and ids of <html> and <body>
    Rule("class", r"\b(?:single-post|single-format|postid-\d|node-type-blog)", {"article": 0.25, "blog": 1}, "one post"),
    Rule("class", r"node-type-(?:article|story|news)", {"article": 1.5, "blog": 0.5}, "Drupal's name for one text"),
    Rule("class", r"\b(?:archive|category|search-results|tag-\w|blog home|paged)\b", {"listing": 2.5}, "WordPress's name for an index"),
    Rule("class", r"\bpage-id-\d|\bpage-template", {"other": 1.5}, "WordPress's name for what is no post"),
    Rule("class", r"\bsingle-product|catalog-product-view|product-(?:page|detail|template)|template-product", {"product": 3}, "shops"),
    Rule("class", r"question-page|section-viewtopic|\bthread_view|vbulletin|xenforo|\btopic\b|p-body|\bphpbb", {"forum": 4}, "forums"),
    Rule("class", r"mediawiki", {"article": 0.5}, "wikis"),
    # --- where it lives
    Rule(
        "host",
        r"(?:^|\.)(?:forums?|community|board|answers|ask|discuss)\.|forum|stackexchange|stackoverflow\.com|mathoverflow|reddit\.com",
        {"forum": 3},
        "hosts of threads",
    ),
    Rule(
        "host",
        r"(?:^|\.)(?:docs?|documentation|developer|developers|manual|api)\.|readthedocs|w3school",
        {"documentation": 3},
        "hosts of manuals",
    ),
    Rule("host", r"blog|wordpress\.com|hypotheses\.org|substack\.com|tumblr\.com|medium\.com|livejournal", {"blog": 2.5}, "hosts of blogs"),
    Rule("host", r"^(?:shop|store)\.", {"product": 1.5, "listing": 0.5}, "shops"),
    Rule(
        "path",
        r"/(?:forums?|foren|boards?|threads?|viewtopic|showthread|discussions?|questions/\d|comments/\w|t\d+-)",
        {"forum": 3},
        "threads",
    ),
    Rule("path", r"/(?:docs?|documentation|manual|reference|api|javadoc|man\d?|handbook)/", {"documentation": 3}, "manuals"),
    Rule(
        "path",
        r"/(?:products?|produkte?|produit|item|dp|shopdetail|product-page|product_info|used-cars)\b|[-/]p-\d+",
        {"product": 1.5},
        "one thing for sale",
    ),
    Rule(
        "path",
        r"/(?:category|categories|kategorien?|produkt_kategorien|collections?|tags?|archives?|author|search|labels?|list|vod/type|area)/|/list_\d|/page/\d",
        {"listing": 2},
        "an index",
    ),
    Rule(
        "path",
        r"/(?:blogs?|news|aktuelles|articles?|artikel|posts|archiv\w*|events|products?)/?$",
        {"listing": 4},
        "the index of such pages",
    ),
    Rule("path", r"[?&](?:s|q|query|search)=|special:|/search\b", {"listing": 3}, "results of a search"),
    Rule("path", r"^/?(?:index\.\w+|home/?)?$", {"listing": 2, "other": 2.5}, "a home page"),
    Rule("path", r"^/[^/?.]+/?$", {"other": 0.5}, "no more than one step from home"),
    Rule("path", r"/(?:\w+-)?blogs?(?:-\w+)?/", {"blog": 2.5}, "a blog of a site"),
    Rule("path", r"/20\d\d/[01]?\d/", {"article": 0.25, "blog": 1}, "a text of a day"),
    Rule(
        "path",
        r"/(?:news|nachrichten|articles?|artikel|story|stories|noticias?|aktuell\w*|presse\w*|meldung\w*|magazin\w*|politi\w+|sports?|wirtschaft|world|business)[/.]",
        {"article": 1.5},
        "a newspaper's section",
    ),
    Rule("path", r"\d{5}|(?:[^/-]+-){4}", {"article": 0.75, "blog": 0.25}, "an article's number or its headline"),
    Rule(
        "path",
        r"/(?:about|about-us|impressum|kontakt|contact|terms\S*|privacy|imprint|ueber-uns|uber-uns|team|people|agb|datenschutz|research|company)\b",
        {"other": 3},
        "a house and its people",
    ),
    Rule("title", r"blog", {"blog": 2}, "calls itself one"),
    Rule("title", r"\b(?:forum|foren|stack exchange|stack overflow|thread|community)\b", {"forum": 2}, "calls itself one"),
    Rule(
        "title",
        r"\b(?:documentation|tutorial|manual|reference|api|user guide|rfc|draft-\w+)\b|developers?\b|microsoft (?:learn|docs)",
        {"documentation": 1.5},
        "calls itself one",
    ),
    Rule("title", r"\b(?:archives?|category|search results|page \d+|kategorie)\b", {"listing": 1.5}, "calls itself one"),
    Rule(
        "title",
        r"\b(?:terms of use|privacy policy|impressum|contact|kontakt|about (?:me|us)|über uns|home)\b",
        {"other": 3},
        "calls itself one",
    ),
    # --- what it says of itself: 1 where it does
    Rule("published", (1, 2), {"article": 1, "blog": 1}, "texts have dates"),
    Rule("published", (0, 1), {"other": 1.75, "product": 0.75, "documentation": 0.75}, "pages that last have none"),
    Rule("authors", (1, 2), {"article": 0.5, "blog": 0.75}, "texts have authors"),
    Rule("section", (1, 2), {"article": 0.75}, "newspapers have sections"),
    # --- counts of its blocks
    Rule("words", (0, 60), {"other": 0.5, "listing": 0.5, "product": 0.5}, "no text to speak of"),
    Rule("words", (200, _NO_END), {"article": 0.25, "blog": 0.25}, "a text"),
    Rule("paragraphs", (4, _NO_END), {"article": 1, "blog": 0.75}, "long paragraphs"),
    Rule("paragraphs", (0, 1), {"listing": 0.75, "product": 0.5, "other": 0.5}, "none"),
    Rule("link_share", (0.6, _NO_END), {"listing": 1}, "mostly links"),
    Rule("link_share", (0.8, _NO_END), {"listing": 1}, "hardly anything but links"),
    Rule("repeated", (40, _NO_END), {"listing": 0.5}, "the same structure again and again"),
    Rule("code", (3, _NO_END), {"documentation": 1, "blog": 0.25}, "shows code"),
    Rule("prices", (2, _NO_END), {"product": 0.5, "listing": 0.25}, "names prices"),
    Rule("posts", (3, _NO_END), {"forum": 1.5}, "several posts by readers"),
)
