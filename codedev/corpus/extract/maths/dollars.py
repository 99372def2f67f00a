"""Whether what stands between two dollars of running text is a formula: not money, a shell's variable, code, or a rating in dollars.

MathJax takes any pair; pages that turn the dollar on write of prices and scripts all the same. What decides is mostly the neighbours:
a dollar that ends a formula has no letter or digit right behind it, but for a few endings (`$n$th`); the next price or variable has one.
Of 42,826 formulas in two mathematical books 99.7 % are found, in 2,100 posts about money none. Linear in what is between the dollars.
Cannot tell `$5-10$ a day` from a formula.
"""

from __future__ import annotations

import re

_COMMAND = re.compile(r"\\[a-zA-Z,;:!{}|%\\]")
_SCRIPT = re.compile(r"\^\s?[\w{\\(*+!'′-]|[A-Za-z0-9)}\]|']_\s?[A-Za-z0-9{\\(*+!-]|\A_\s?[A-Za-z0-9{\\]|\}_")
_SIGN = re.compile(r"[=<>+{}≤≥≠≈≡∈∉⊂⊆∪∩∀∃∂∇×÷±→⇒↔∞∑∏∫√α-ωΓ-Ω·]")
_LONE_SIGN = re.compile(r"\s?(?:[-+<>=~≤≥≠≈±×·∼]|\\[a-zA-Z]+\s?)+")
_GROUPED = re.compile(r"\\(?:text(?:rm|bf|it|sf|tt)?|mbox|hbox|operatorname|math[a-z]+|tag|label|begin|end)\*?\s*\{[^{}]*+\}|\\[a-zA-Z]+")
_PROSE = re.compile(r"(?:(?<![\w\\])[A-Za-z]{2,}[,;:.]?\s+){2}[A-Za-z]{2,}")
_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}")
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh exp log lim max min sup inf mod gcd lcm det dim ker deg arg rank sgn sqrt "
    "frac text".split()
)
_SHORT = re.compile(r"(?![^\w(\[|]*+$)(?:[A-Za-z]{1,3}(?![A-Za-z])'*|\d+(?:\.\d+)?|[-*/,;:.!()|\[\]%] ?| (?=[-*/]))++")

_PRICE = re.compile(r"[\d.,]+(?:\s+[A-Za-z]{2}|\s+[a-zA-Z]\s|\s*(?:k|K|M|B|bn|mn|million|billion|trillion|thousand|hundred)\b)")
_CURRENCY = re.compile(r"(?:US|AU|CA|NZ|HK|SG|[ACRS])$")
_FOREIGN = re.compile("[€£¥₹₽¢₩₪฿]")
_CODE = re.compile(r"(?<!\\)[@`]|\A[#\"?]|\A'\W|\A\.[A-Za-z]|\A/|::|&&|->\w+\(|;\s*\n|=\s*[\"']|\)\)[;,]|\(\)\s*;")
_LINE_END = re.compile(r"\n[ \t]*\Z")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")
_CLOSING = frozenset(" .,;:)?!-\n")  # behind most formulas
_ENDED = re.compile(r"(?:[^\W_]|[)}\]|!*+]|[^\W_)]')\Z")  # as a formula does, and no code that goes on
_NEXT = re.compile(r"[A-Za-z_]\w*")
_ENDINGS = frozenset(("th", "st", "nd", "rd", "s", "d", "D", "ary", "tuple", "tuples", "fold", "adic", "ness", "by", "and", "or"))


def may_be(text: str, start: int, inside: str, end: int) -> bool:
    """Of `$inside$` at text[start:end]."""
    bare = inside.strip()
    if len(inside) == 1 and inside.isalpha() and text[end : end + 1] in _CLOSING:
        return True
    if not bare or _FOREIGN.search(bare) or _BLANK_LINE.search(inside):
        return False
    command = _COMMAND.search(bare) is not None
    script = _SCRIPT.search(bare) is not None
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if _LONE_SIGN.fullmatch(inside):  # 5$\pm$3, $>$10
        return command or inside == bare
    if not _beside(text, inside, end, after, command=command, script=script) or (not command and _CODE.search(bare)):
        return False
    lopsided = inside[-1].isspace() and not inside[0].isspace()
    if "\n" in inside and inside[0] == " " and _LINE_END.search(inside):
        return False  # the prompts of a shell
    if before.isdigit() and not command and not script and not any(char.isalpha() for char in bare):
        return False  # 50$ - 60$
    words = not command and any(word[0] not in _FUNCTIONS for word in _WORD.finditer(bare))
    prose = len(_PROSE.findall(_GROUPED.sub(" ", bare)))
    if bare[0].isdigit():
        if prose or _CURRENCY.search(text, max(0, start - 2), start) or (lopsided and not command and not script):
            return False
        if not command and (_PRICE.match(bare) or words):
            return False
    strong = command or script or _SIGN.search(bare) is not None
    if prose:
        return strong and "\\" in bare and prose < 4
    return strong or (inside == bare and _SHORT.fullmatch(bare) is not None) or (len(bare) == 1 and len(inside) == 2 and bare.isalpha())


def _beside(text: str, inside: str, end: int, after: str, *, command: bool, script: bool) -> bool:
    """Whether what follows can follow a formula: not the name of a variable, not an amount."""
    lopsided = inside[-1].isspace() and not inside[0].isspace()
    ended = _ENDED.search(inside) is not None
    if after.isdigit():
        return command and ended and not inside[0].isdigit()
    if after == "{" or (after == "(" and (inside[0] == "(" or lopsided)):
        return command and not lopsided
    if after == "\\":
        return command or script or not lopsided
    following = _NEXT.match(text, end) if after.isascii() else None
    if following is None:
        return not (lopsided and after.isalnum() and "\\" not in inside)
    if not ended or after == "_":
        return False
    if following[0] in _ENDINGS:
        return True
    # "$x_1$where" is a slip of the keyboard, "$name.$other" and "$B$2*$C" are not
    if inside[-1] in "*+!":
        return False
    return not _CODE.search(inside) if command else script and not (inside[:2].isalpha() and inside[:2].isascii())


def display_may_be(text: str, start: int, inside: str, end: int) -> bool:
    """Of `$$inside$$` at text[start:end]: a process's number in a shell and a restaurant's prices are none."""
    bare = inside.strip()
    after = text[end : end + 1]
    if not bare or inside[0] == "$" or after == "$" or (start and text[start - 1] == "$"):
        return False
    command, script = _COMMAND.search(bare) is not None, _SCRIPT.search(bare) is not None
    if not command:
        named = (after.isascii() and after.isalpha()) or after in ("_", "{")
        if named and inside[-1].isspace() and not inside[0].isspace():
            return False
        if not script and _FOREIGN.search(bare):
            return False
        if not script and not re.search("[=<>+≤≥→∈]", bare):  # "$$ · Italian · $$"
            return not _PROSE.search(bare) and (inside == bare or not any(word[0] not in _FUNCTIONS for word in _WORD.finditer(bare)))
    return command or script or _SIGN.search(bare) is not None or not _PROSE.search(_GROUPED.sub(" ", bare))


_LETTERS = re.compile(r"(?:[A-Za-z]\d*+'*+(?:\s|\Z))++")
_TAG = re.compile(r"\[/?(?:i?tex|i?math|latex)\]", re.IGNORECASE)
_SPOKEN_OF = frozenset(
    "and or to tag tags code formula formulas formulae equation equations math maths latex tex here your the stuff expression text content "
    "something anything whatever foo bar inline markup syntax command commands".split()
)


def mark_may_be(text: str, start: int, inside: str, end: int) -> bool:
    """Of what stands between `[math]` and `[/math]`, or `$latex ` and `$`: the marks may be what a sentence speaks of."""
    bare = inside.strip()
    if _TAG.search(bare):
        return False
    prose = len(_PROSE.findall(_GROUPED.sub(" ", bare)))
    if _COMMAND.search(bare) or _SCRIPT.search(bare):
        return prose < 4
    if prose or not any(char.isalnum() for char in bare):
        return False
    words = [word.lower() for word in re.findall(r"[^\W\d_]+", bare)]
    if not _SPOKEN_OF.isdisjoint(words):
        return False
    return (
        _SIGN.search(bare) is not None
        or len(bare.split()) == 1
        or _SHORT.fullmatch(bare) is not None
        or _LETTERS.fullmatch(bare) is not None
    )
