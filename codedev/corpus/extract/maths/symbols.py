"""Characters of mathematics and their LaTeX: the tables that the converters of MathML and AsciiMath share, and the rules for fonts.

A character in neither table and in no mathematical alphabet stands for itself, as XeTeX and MathJax read it. One look-up a character, 0.2
µs.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_NAMES = """
α alpha β beta γ gamma δ delta ε varepsilon ϵ epsilon ζ zeta η eta θ theta ϑ vartheta ι iota κ kappa ϰ varkappa λ lambda μ mu µ mu ν nu ξ xi
π pi ϖ varpi ρ rho ϱ varrho σ sigma ς varsigma τ tau υ upsilon φ varphi ϕ phi χ chi ψ psi ω omega ϝ digamma
Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Υ Upsilon ϒ Upsilon Φ Phi Ψ Psi Ω Omega Ω Omega ∆ Delta ϴ Theta
∞ infty ∂ partial ∇ nabla ∅ emptyset ℵ aleph ℶ beth ℷ gimel ℸ daleth ℏ hbar ℓ ell ℘ wp ℜ Re ℑ Im ı imath ȷ jmath ð eth Ⅎ Finv ⅁ Game ℧ mho
∀ forall ∃ exists ∄ nexists ∁ complement ¬ neg ⊤ top ⊥ bot ∠ angle ∡ measuredangle ∢ sphericalangle △ triangle ▽ triangledown □ square ◻
square
■ blacksquare ◼ blacksquare ▲ blacktriangle ▼ blacktriangledown ★ bigstar ◊ lozenge ⧫ blacklozenge ♢ diamondsuit ♡ heartsuit ♠ spadesuit
♣ clubsuit ♦ diamondsuit ♥ heartsuit ♭ flat ♮ natural ♯ sharp † dagger ‡ ddagger § S ¶ P £ pounds ¥ yen © copyright ® circledR ✓ checkmark
✠ maltese ‵ backprime ∎ blacksquare
± pm ∓ mp × times ÷ div ⋅ cdot · cdot ∘ circ ∙ bullet • bullet ⋆ star ∩ cap ∪ cup ⊎ uplus ⊓ sqcap ⊔ sqcup ∨ vee ∧ wedge ∖ setminus ⧵
setminus
≀ wr ⋄ diamond ⊕ oplus ⊖ ominus ⊗ otimes ⊘ oslash ⊙ odot ⊚ circledcirc ⊛ circledast ⊝ circleddash ⊞ boxplus ⊟ boxminus ⊠ boxtimes ⊡ boxdot
◯ bigcirc ○ circ ⨿ amalg ⋉ ltimes ⋊ rtimes ⋋ leftthreetimes ⋌ rightthreetimes ⋎ curlyvee ⋏ curlywedge ⊻ veebar ⊼ barwedge ⊺ intercal
⋒ Cap ⋓ Cup ∔ dotplus ⩞ doublebarwedge ⋇ divideontimes ◁ triangleleft ▷ triangleright ◃ triangleleft ▹ triangleright ⊲ vartriangleleft
⊳ vartriangleright ⊴ trianglelefteq ⊵ trianglerighteq ⊴ trianglelefteq ⋖ lessdot ⋗ gtrdot ∐ coprod
≤ leq ≥ geq ≠ neq ≡ equiv ∼ sim ≃ simeq ≈ approx ≅ cong ≊ approxeq ≍ asymp ≐ doteq ≑ doteqdot ≒ fallingdotseq ≓ risingdotseq ≗ circeq
≜ triangleq ≙ overset{\\wedge}{=} ≝ overset{\\mathrm{def}}{=} ≟ overset{?}{=} ≏ bumpeq ≎ Bumpeq ∝ propto ≪ ll ≫ gg ⋘ lll ⋙ ggg ≺ prec ≻ succ
⪯ preceq ⪰ succeq ≼ preccurlyeq ≽ succcurlyeq ⋞ curlyeqprec ⋟ curlyeqsucc ≾ precsim ≿ succsim ⊂ subset ⊃ supset ⊆ subseteq ⊇ supseteq
⊊ subsetneq ⊋ supsetneq ⊄ not\\subset ⊅ not\\supset ⊈ nsubseteq ⊉ nsupseteq ⋐ Subset ⋑ Supset ⊏ sqsubset ⊐ sqsupset ⊑ sqsubseteq
⊒ sqsupseteq ⫅ subseteqq ⫆ supseteqq ∈ in ∋ ni ∉ notin ∌ not\\ni ∊ in ⊢ vdash ⊣ dashv ⊨ models ⊩ Vdash ⊪ Vvdash ⊫ Vdash ⊬ nvdash ⊭ nvDash
⊮ nVdash ⊯ nVDash ∣ mid ∤ nmid ∥ parallel ∦ nparallel ⟂ perp ≬ between ⋔ pitchfork ⌣ smile ⌢ frown ⋈ bowtie ⨝ bowtie ∽ backsim ⋍ backsimeq
≲ lesssim ≳ gtrsim ≶ lessgtr ≷ gtrless ⋚ lesseqgtr ⋛ gtreqless ⪅ lessapprox ⪆ gtrapprox ⩽ leqslant ⩾ geqslant ≦ leqq ≧ geqq ≨ lneqq ≩ gneqq
⪇ lneq ⪈ gneq ⋦ lnsim ⋧ gnsim ⪕ eqslantless ⪖ eqslantgtr ≮ nless ≯ ngtr ≰ nleq ≱ ngeq ≁ nsim ≄ not\\simeq ≇ ncong ≉ not\\approx ≢ not\\equiv
⊀ nprec ⊁ nsucc ⋠ npreceq ⋡ nsucceq ⋪ ntriangleleft ⋫ ntriangleright ⋬ ntrianglelefteq ⋭ ntrianglerighteq ≖ eqcirc ≔ coloneqq ≕ eqqcolon
⩴ Coloneqq ∷ Colon ∴ therefore ∵ because ∺ Vert ϶ backepsilon
→ to ← leftarrow ↔ leftrightarrow ⇒ Rightarrow ⇐ Leftarrow ⇔ Leftrightarrow ↑ uparrow ↓ downarrow ↕ updownarrow ⇑ Uparrow ⇓ Downarrow
⇕ Updownarrow ↦ mapsto ⟶ longrightarrow ⟵ longleftarrow ⟷ longleftrightarrow ⟹ Longrightarrow ⟸ Longleftarrow ⟺ iff ⟼ longmapsto
↪ hookrightarrow ↩ hookleftarrow ⇀ rightharpoonup ⇁ rightharpoondown ↼ leftharpoonup ↽ leftharpoondown ⇌ rightleftharpoons
⇋ leftrightharpoons ↗ nearrow ↘ searrow ↙ swarrow ↖ nwarrow ⇝ rightsquigarrow ⇜ leftsquigarrow ↝ leadsto ⤳ leadsto ↭ leftrightsquigarrow
↠ twoheadrightarrow ↞ twoheadleftarrow ↣ rightarrowtail ↢ leftarrowtail ⇄ rightleftarrows ⇆ leftrightarrows ⇉ rightrightarrows
⇇ leftleftarrows ⇈ upuparrows ⇊ downdownarrows ↾ upharpoonright ↿ upharpoonleft ⇂ downharpoonright ⇃ downharpoonleft ⇛ Rrightarrow
⇚ Lleftarrow ↺ circlearrowleft ↻ circlearrowright ↶ curvearrowleft ↷ curvearrowright ⊸ multimap ↛ nrightarrow ↚ nleftarrow ↮ nleftrightarrow
⇏ nRightarrow ⇍ nLeftarrow ⇎ nLeftrightarrow ↰ Lsh ↱ Rsh ↫ looparrowleft ↬ looparrowright ⇢ dashrightarrow ⇠ dashleftarrow ￫ to
∑ sum ∏ prod ∫ int ∬ iint ∭ iiint ⨌ iiiint ∮ oint ∯ oiint ∰ oiiint ⋀ bigwedge ⋁ bigvee ⋂ bigcap ⋃ bigcup ⨀ bigodot ⨁ bigoplus ⨂ bigotimes
⨄ biguplus ⨆ bigsqcup
… ldots ⋯ cdots ⋮ vdots ⋱ ddots ⟨ langle ⟩ rangle 〈 langle 〉 rangle 〈 langle 〉 rangle ⌈ lceil ⌉ rceil ⌊ lfloor ⌋ rfloor ⌜ ulcorner
⌝ urcorner ⌞ llcorner ⌟ lrcorner ⟦ llbracket ⟧ rrbracket ⟮ lgroup ⟯ rgroup ⎰ lmoustache ⎱ rmoustache ‖ | √ surd ′ prime ⊦ vdash ∕ slash ⬝
centerdot ⧸ not
"""
COMMANDS: dict[str, str] = {a: "\\" + b for a, b in zip(_NAMES.split()[::2], _NAMES.replace("\\\\", "\\").split()[1::2], strict=True)}
COMMANDS |= {
    "\\": r"\backslash", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "_": r"\_", "~": r"\sim",
    "^": r"\text{\textasciicircum}",
    "−": "-", "‐": "-", "‑": "-", "–": "-", "—": r"\text{—}", "∗": "*", "∶": ":", "⁄": "/", "∕": "/", "＝": "=", "＋": "+", "（": "(",
    "）": ")", "ˉ": r"\bar{}",
    "′": "'", "″": "''", "‴": "'''", "⁗": "''''", "°": r"^{\circ}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "½": r"\frac{1}{2}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "ⅆ": "d", "ⅅ": "D", "ⅇ": "e", "ⅈ": "i", "ⅉ": "j", "ℎ": "h", "\u00c5": r"\mathring{A}", "\u212b": r"\mathring{A}",
    "\u2061": "", "\u2062": "", "\u2063": "", "\u2064": "", "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "", "\ufeff": "",
    "\ufe0e": "", "\ufe0f": "",
    "\xa0": r"\ ", "\u2002": r"\enspace", "\u2003": r"\quad", "\u2004": r"\;", "\u2005": r"\:", "\u2006": r"\,", "\u2009": r"\,",
    "\u200a": r"\,",
    "\u202f": r"\,", "\u205f": r"\:", " ": r"\ ", "\t": r"\ ", "\n": r"\ ", "\r": r"\ ",
}  # fmt: skip

FUNCTIONS = frozenset(
    [
        "arccos",
        "arcsin",
        "arctan",
        "arg",
        "cos",
        "cosh",
        "cot",
        "coth",
        "csc",
        "deg",
        "det",
        "dim",
        "exp",
        "gcd",
        "hom",
        "inf",
        "ker",
        "lg",
        "lim",
        "liminf",
        "limsup",
        "ln",
        "log",
        "max",
        "min",
        "Pr",
        "sec",
        "sin",
        "sinh",
        "sup",
        "tan",
        "tanh",
    ]
)
# Operators that carry their limits below and above in displays.
LIMITS = frozenset("∑∏∐⋀⋁⋂⋃⨀⨁⨂⨄⨆") | {"det", "gcd", "inf", "lim", "liminf", "limsup", "max", "min", "Pr", "sup"}
INTEGRALS = frozenset("∫∬∭⨌∮∯∰")
OPENING = dict(zip("([{⟨〈〈⌈⌊⌜⟦⟮⎰", ")]}⟩〉〉⌉⌋⌝⟧⟯⎱", strict=True))
CLOSING = frozenset(OPENING.values())
BARS = frozenset("|‖∥∣")

# mathvariant, and the words of Unicode's names for the mathematical alphabets -> the command.
FONTS = {
    "normal": r"\mathrm", "bold": r"\mathbf", "italic": r"\mathit", "bold-italic": r"\boldsymbol", "double-struck": r"\mathbb",
    "fraktur": r"\mathfrak",
    "bold-fraktur": r"\boldsymbol\mathfrak", "script": r"\mathcal", "bold-script": r"\boldsymbol\mathcal", "sans-serif": r"\mathsf",
    "bold-sans-serif": r"\boldsymbol\mathsf", "sans-serif-italic": r"\mathsf", "sans-serif-bold-italic": r"\boldsymbol\mathsf",
    "monospace": r"\mathtt",
    "-tex-calligraphic": r"\mathcal", "-tex-caligraphic": r"\mathcal", "-tex-mathit": r"\mathit",
    "-tex-oldstyle": "", "tex-bold-calligraphic": r"\boldsymbol\mathcal",
}  # fmt: skip
_ALPHABETS = {
    "BOLD": "bold", "ITALIC": "", "BOLD ITALIC": "bold-italic", "SCRIPT": "script", "BOLD SCRIPT": "bold-script",
    "FRAKTUR": "fraktur", "BLACK-LETTER": "fraktur",
    "BOLD FRAKTUR": "bold-fraktur", "DOUBLE-STRUCK": "double-struck", "DOUBLE-STRUCK ITALIC": "double-struck", "SANS-SERIF": "sans-serif",
    "SANS-SERIF BOLD": "bold-sans-serif", "SANS-SERIF ITALIC": "sans-serif-italic",
    "SANS-SERIF BOLD ITALIC": "sans-serif-bold-italic", "MONOSPACE": "monospace",
}  # fmt: skip


@lru_cache(maxsize=4096)
def alphabet(char: str) -> tuple[str, str]:
    """The letter that a styled letter is made of, and its mathvariant: 𝔸 -> A, double-struck. Others give themselves and ""."""
    made_of = unicodedata.decomposition(char).split()
    if len(made_of) != 2 or made_of[0] != "<font>" or char in COMMANDS:
        return char, ""
    plain = chr(int(made_of[1], 16))
    words = unicodedata.name(char).removeprefix("MATHEMATICAL ")
    for end in (" CAPITAL ", " SMALL ", " DIGIT ", " NABLA", " PARTIAL ", " EPSILON ", " THETA ", " KAPPA ", " PHI ", " RHO ", " PI "):
        if end in words:
            return plain, _ALPHABETS.get(words.partition(end)[0], "")
    return plain, ""


def symbol(char: str) -> str:
    """One character in mathematics."""
    found = COMMANDS.get(char)
    if found is not None:
        return found
    if char < "\x7f":
        return char if char >= " " else ""
    plain, variant = alphabet(char)
    return styled(COMMANDS.get(plain, plain), variant) if plain != char else _other(char)


@lru_cache(maxsize=4096)
def _other(char: str) -> str:
    """Letters of other scripts are words, not mathematics; control characters and lone surrogates are nothing."""
    kind = unicodedata.category(char)
    if kind[0] == "C":
        return ""
    return r"\text{" + char + "}" if kind in ("Lo", "Lm") or "\u00c0" <= char <= "\u024f" else char


def styled(latex: str, variant: str) -> str:
    """A token under a mathvariant. Commands (Greek, operators) take weight alone: \\mathbf does nothing to them."""
    font = FONTS.get(variant, "")
    if not font or not latex:
        return latex
    if latex[0] == "\\" or not latex[0].isalnum():
        return rf"\boldsymbol{{{latex}}}" if variant.startswith("bold") or "bold" in variant else latex
    outer, _, inner = font[1:].partition("\\")
    if variant == "script" and latex.islower():
        return rf"\mathscr{{{latex}}}"
    return rf"\{outer}{{\{inner}{{{latex}}}}}" if inner else rf"{font}{{{latex}}}"


_TEXT = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "\xa0": " ", "\u2002": " ", "\u2003": " ", "\u2009": " ", "\u202f": " ", "\u2007": " ",
    **dict.fromkeys(["\u200b", "\u2060", "\u2061", "\u2062", "\u2063", "\u2064", "\ufeff"], ""),
    **{chr(i): "" for i in [*range(9), 11, 12, *range(14, 32), 127]},
})  # fmt: skip


def words(text: str, command: str = r"\text") -> str:
    """Text within mathematics, escaped."""
    return rf"{command}{{{text.translate(_TEXT)}}}"


def ends_in_word(latex: str) -> bool:
    """Whether a letter after this would run into its last command."""
    if not latex or not latex[-1].isalpha():
        return False
    name = latex[latex.rfind("\\", -40) + 1 :] if "\\" in latex[-40:] else ""
    return name.isascii() and name.isalpha()


def joined(parts: list[str]) -> str:
    """Parts one after another, with a space where a command would swallow a letter."""
    out: list[str] = []
    after_word = False
    for part in parts:
        if not part:
            continue
        if after_word and part[0].isalpha():
            out.append(" ")
        out.append(part)
        after_word = ends_in_word(part)
    return "".join(out)
