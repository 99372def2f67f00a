"""What books say of themselves, in the words of the DOCUMENT schema: languages as BCP-47 tags, licences as SPDX expressions."""

from __future__ import annotations

import re

from codedev.corpus import licence
from codedev.corpus.extract.html import licence_of_url

# English names, and the three-letter codes of ISO 639-2, of the languages that books of the public domain come in.
_LANGUAGES = {
    tag: names.split()
    for tag, names in {
        "af": "afrikaans afr",
        "ar": "arabic ara",
        "bg": "bulgarian bul",
        "br": "breton bre",
        "ca": "catalan cat",
        "cs": "czech ces cze",
        "cy": "welsh cym wel",
        "da": "danish dan",
        "de": "german deu ger",
        "el": "greek ell gre",
        "grc": "ancient-greek grc",
        "en": "english eng",
        "ang": "old-english ang",
        "enm": "middle-english enm",
        "eo": "esperanto epo",
        "es": "spanish spa",
        "et": "estonian est",
        "fa": "persian fas per farsi",
        "fi": "finnish fin",
        "fr": "french fra fre",
        "fy": "frisian fry",
        "ga": "irish gle",
        "gd": "gaelic-scottish gla",
        "gl": "galician glg",
        "he": "hebrew heb",
        "hi": "hindi hin",
        "hr": "croatian hrv",
        "hu": "hungarian hun",
        "ia": "interlingua ina",
        "is": "icelandic isl ice",
        "it": "italian ita",
        "ja": "japanese jpn",
        "ko": "korean kor",
        "la": "latin lat",
        "lt": "lithuanian lit",
        "lv": "latvian lav",
        "mi": "maori mri mao",
        "nl": "dutch nld dut",
        "no": "norwegian nor",
        "oc": "occitan oci",
        "pl": "polish pol",
        "pt": "portuguese por",
        "ro": "romanian ron rum",
        "ru": "russian rus",
        "sa": "sanskrit san",
        "sk": "slovak slk slo",
        "sl": "slovenian slv",
        "sr": "serbian srp",
        "sv": "swedish swe",
        "sw": "swahili swa",
        "te": "telugu tel",
        "tl": "tagalog tgl",
        "tr": "turkish tur",
        "uk": "ukrainian ukr",
        "ur": "urdu urd",
        "vi": "vietnamese vie",
        "yi": "yiddish yid",
        "zh": "chinese zho chi",
    }.items()
}
_TAG = {name: tag for tag, names in _LANGUAGES.items() for name in (tag, *names)}
_BCP47 = re.compile(r"([a-z]{2,3})((?:-[a-z0-9]{2,8})*)", re.IGNORECASE)
_URL = re.compile(r"(?:https?:)?//[^\s<>\"')\]]{4,200}")


def language_tag(said: str | None) -> str | None:
    """`English`, `eng`, `en_GB` and the like as a BCP-47 tag; None for what is none, and for several languages."""
    if not said:
        return None
    word = "-".join(re.sub(r"[(),]", " ", said.strip().lower()).replace("_", "-").split())
    if word in _TAG:
        return _TAG[word]
    found = _BCP47.fullmatch(word)
    if not found or (found[1] not in _TAG and len(found[1]) != 2):
        return None
    rest = [
        part.upper() if len(part) == 2 else part.title() if len(part) == 4 and part.isalpha() else part
        for part in found[2].split("-")
        if part
    ]
    return "-".join([_TAG.get(found[1], found[1]), *rest])


def licence_of(*said: str | None) -> str | None:
    """The SPDX expression of the one licence that addresses or words of a rights statement name; None where they name none or several."""
    found = {spdx for text in said if text for url in _URL.findall(text) if (spdx := licence_of_url(url.rstrip(".,;")))}
    if not found:
        found = {spdx for text in said if text and (spdx := licence.of_declaration(text))}
    return next(iter(found)) if len(found) == 1 else None
