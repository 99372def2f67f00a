"""Labels of language identifiers as BCP-47 tags, and the languages that a macrolanguage's tag stands for."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from codedev.corpus.bounds import _LIBRARY

# ISO 639-3 and 639-1 of the languages that have a two-letter code: BCP-47 asks for the shorter one.
SHORT = dict(
    pair.split(":")
    for pair in (
        "aar:aa abk:ab afr:af aka:ak amh:am ara:ar arg:an asm:as ava:av ave:ae aym:ay aze:az bak:ba bam:bm "
        "bel:be ben:bn bis:bi bod:bo bos:bs bre:br "
        "bul:bg cat:ca ces:cs cha:ch che:ce chu:cu chv:cv cor:kw cos:co cre:cr cym:cy dan:da deu:de div:dv "
        "dzo:dz ell:el eng:en epo:eo est:et eus:eu "
        "ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fry:fy ful:ff gla:gd gle:ga glg:gl glv:gv grn:gn guj:gu "
        "hat:ht hau:ha heb:he her:hz hin:hi hmo:ho "
        "hrv:hr hun:hu hye:hy ibo:ig ido:io iii:ii iku:iu ile:ie ina:ia ind:id ipk:ik isl:is ita:it jav:jv "
        "jpn:ja kal:kl kan:kn kas:ks kat:ka kau:kr "
        "kaz:kk khm:km kik:ki kin:rw kir:ky kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv lim:li "
        "lin:ln lit:lt ltz:lb lub:lu lug:lg mah:mh "
        "mal:ml mar:mr mkd:mk mlg:mg mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng "
        "nep:ne nld:nl nno:nn nob:nb nor:no nya:ny "
        "oci:oc oji:oj ori:or orm:om oss:os pan:pa pli:pi pol:pl por:pt pus:ps que:qu roh:rm ron:ro run:rn "
        "rus:ru sag:sg san:sa sin:si slk:sk slv:sl "
        "sme:se smo:sm sna:sn snd:sd som:so sot:st spa:es sqi:sq srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv "
        "tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl "
        "tha:th tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz ven:ve vie:vi "
        "vol:vo wln:wa wol:wo xho:xh yid:yi yor:yo "
        "zha:za zho:zh zul:zu"
    ).split()
)
# The member that a macrolanguage's text is nearly always in: corpora tag it with the macrolanguage's code.
_USUAL_MEMBER = dict(
    pair.split(":")
    for pair in (
        "als:sq arb:ar azj:az cmn:zh ekk:et gaz:om khk:mn kmr:ku lvs:lv npi:ne ory:or pbt:ps pes:fa plt:mg "
        "swh:sw uzn:uz ydd:yi zsm:ms gug:gn fil:tl nor:nb pbu:ps ike:iu ojb:oj src:sc fri:fy "
    ).split()
)
# Tag: members that have tags of their own (ISO 639-3). A recipe that keeps the macrolanguage keeps them.
MACRO = {
    "ar": ("arz", "ary", "arq", "apc", "acm", "ars", "ajp", "aeb", "acq", "afb", "shu", "mey"),
    "az": ("azb",),
    "fa": ("prs",),
    "ff": ("fuc", "fuv", "fuf", "fub"),
    "ku": ("ckb", "sdh"),
    "ms": ("id", "min", "bjn", "zlm"),
    "no": ("nb", "nn"),
    "sh": ("sr", "hr", "bs", "cnr"),
    "zh": ("yue", "wuu", "nan", "hak", "gan", "lzh"),
}
# Scripts that a tag leaves out, beside Latin for all languages not named here.
_USUAL_SCRIPT = {
    script: set(tags.split())
    for script, tags in {
        "Arab": "ar fa ur ps sd ug ckb arz ary arq apc acm ars ajp aeb acq prs pnb azb ks lrc mzn glk bal bqi",
        "Cyrl": "ru uk be bg mk sr kk ky tg mn tt ba cv os ce av sah tyv kv udm myv mdf mhr mrj krc kbd ab lez bua rue xal",
        "Deva": "hi mr ne sa mai bho awa mag hne gom new brx doi bh",
        "Hans": "zh", "Hant": "yue", "Hani": "zh yue wuu gan lzh", "Jpan": "ja", "Hang": "ko", "Kore": "ko",
        "Grek": "el grc pnt", "Hebr": "he yi", "Armn": "hy hyw", "Geor": "ka xmf", "Ethi": "am ti", "Beng": "bn as bpy mni", "Guru": "pa",
        "Gujr": "gu", "Orya": "or", "Taml": "ta", "Telu": "te", "Knda": "kn", "Mlym": "ml", "Sinh": "si", "Thai": "th", "Laoo": "lo",
        "Mymr": "my shn", "Khmr": "km", "Tibt": "bo dz", "Thaa": "dv", "Syrc": "syc aii", "Tfng": "zgh", "Cher": "chr", "Cans": "iu",
    }.items()
}  # fmt: skip
_OLD = dict(pair.split(":") for pair in "in:id iw:he ji:yi jw:jv mo:ro".split())  # withdrawn from ISO 639-1
_LOCALE = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})(?:_.*)?")


def short_tag(code: str) -> str:
    """The tag of a language by its ISO 639-3 code: the two-letter one where there is one, the macrolanguage's for its usual member."""
    return _USUAL_MEMBER.get(code) or SHORT.get(code, code)


def tag_of(label: str) -> str:
    """The tag of a label as GlotLID, OpenLID and NLLB write it (`srp_Latn` is sr-Latn, `eng_Latn` en); any other label as it is."""
    if not (match := _LOCALE.fullmatch(label)):
        return label
    return with_script(short_tag(match[1]), match[2])


def with_script(tag: str, script: str) -> str:
    """A tag with its script as subtag, unless it is the one that goes without saying."""
    named = [name for name, tags in _USUAL_SCRIPT.items() if tag in tags]
    return tag if script in (named or ["Latn"]) else f"{tag}-{script}"


@functools.lru_cache(maxsize=4096)
def canonical(tag: str) -> str:
    """A tag as tags are compared, since documents bring what others wrote: `en-us` for en_US, `sr-latn` for srp_Latn, `de` for ger."""
    code, dash, rest = tag.lower().replace("_", "-").partition("-")
    usual = _USUAL_MEMBER.get(code) if code != "als" else None  # lid.176 calls Alemannic so
    return f"{_LIBRARY.get(code) or SHORT.get(code) or _OLD.get(code) or usual or code}{dash}{rest}"


def covers(wanted: str, tag: str) -> bool:
    """Whether `tag` is `wanted` or a kind of it: `zh-Hant` covers zh-Hant-TW (RFC 4647, basic filtering), `no` covers nb and nn-NO."""
    wanted, tag = canonical(wanted), canonical(tag)
    return f"{tag}-".startswith(f"{wanted}-") or tag.partition("-")[0] in MACRO.get(wanted, ())


def narrowest_first(tags: Iterable[str]) -> list[str]:
    """In an order of their own, whatever the recipe's is: first those that most others cover."""
    known = sorted(tags)
    return sorted(known, key=lambda tag: -sum(covers(other, tag) for other in known))
