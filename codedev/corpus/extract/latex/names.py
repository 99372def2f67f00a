"""What LaTeX's commands and environments are, as data: symbols, accents, arguments that are no text, environments by their kind."""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _all(groups: Mapping[str, str]) -> dict[str, str]:
    """{"x y": "1"} as {"x": "1", "y": "1"}."""
    return {name: value for names, value in groups.items() for name in names.split()}


# -- characters

# fmt: off
SYMBOLS: dict[str, str] = {
    "ss": "ß", "SS": "SS", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "aa": "å", "AA": "Å",
    "i": "ı", "j": "ȷ", "dh": "ð", "DH": "Ð", "th": "þ", "TH": "Þ", "dj": "đ", "DJ": "Đ", "ng": "ŋ", "NG": "Ŋ", "ij": "ĳ", "IJ": "Ĳ",
    "S": "§", "P": "¶", "copyright": "©", "pounds": "£", "dag": "†", "ddag": "‡", "dots": "…", "ldots": "…", "textellipsis": "…",
    "dotfill": "…", "textendash": "–", "textemdash": "—", "textquoteleft": "‘", "textquoteright": "’", "textquotedblleft": "“",
    "textquotedblright": "”", "textquotesingle": "'", "textquotedbl": "\"", "quotesinglbase": "‚", "quotedblbase": "„",
    "guillemotleft": "«", "guillemotright": "»", "guilsinglleft": "‹", "guilsinglright": "›", "textexclamdown": "¡",
    "textquestiondown": "¿", "textbullet": "•", "textperiodcentered": "·", "textregistered": "®", "texttrademark": "™",
    "textcopyright": "©", "textsection": "§", "textparagraph": "¶", "textdagger": "†", "textdaggerdbl": "‡", "textdegree": "°",
    "degree": "°", "textmu": "µ", "textohm": "Ω", "textcelsius": "℃", "texteuro": "€", "euro": "€", "EUR": "€", "textsterling": "£",
    "textyen": "¥", "textcent": "¢", "textperthousand": "‰", "perthousand": "‰", "textnumero": "№", "textordmasculine": "º",
    "textordfeminine": "ª", "textonehalf": "½", "textonequarter": "¼", "textthreequarters": "¾", "textpm": "±", "texttimes": "×",
    "textdiv": "÷", "textminus": "−", "textlnot": "¬", "textbar": "|", "textbardbl": "‖", "textless": "<", "textgreater": ">",
    "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textasciigrave": "`", "textunderscore": "_",
    "textbraceleft": "{", "textbraceright": "}", "textdollar": "\\$", "textvisiblespace": "␣", "textrightarrow": "→",
    "textleftarrow": "←", "textuparrow": "↑", "textdownarrow": "↓", "textasteriskcentered": "∗", "textonesuperior": "¹",
    "texttwosuperior": "²", "textthreesuperior": "³", "textbrokenbar": "¦", "lq": "‘", "rq": "’", "lbrack": "[", "rbrack": "]",
    "slash": "/", "textsl": "", "nobreakspace": " ", "space": " ", "quad": " ", "qquad": " ", "TeX": "TeX", "LaTeX": "LaTeX",
    "LaTeXe": "LaTeX2ε", "BibTeX": "BibTeX", "AmS": "AMS", "XeTeX": "XeTeX", "LuaTeX": "LuaTeX", "pdfTeX": "pdfTeX", "checkmark": "✓",
    "cmark": "✓", "xmark": "✗", "ding": "", "male": "♂", "female": "♀", "today": "", "qed": "", "qedhere": "", "enspace": " ",
    "enskip": " ", "flqq": "«", "frqq": "»", "glqq": "„", "grqq": "“", "glq": "‚", "grq": "‘", "flq": "‹", "frq": "›", "og": "« ",
    "fg": " »", "ier": "er", "ieme": "e", "cyra": "а", "cyrb": "б", "textgreek": "", "abstractname": "Abstract", "refname": "References",
    "bibname": "Bibliography", "figurename": "Figure", "tablename": "Table", "proofname": "Proof", "contentsname": "Contents",
    "appendixname": "Appendix",
}
# fmt: on
# Commands of one character that is no letter.
# fmt: off
CHARACTERS: dict[str, str] = {
    "%": "%", "&": "&", "#": "#", "_": "_", "{": "{", "}": "}", "$": "\\$", " ": " ", "\n": " ", "\t": " ", ",": " ", ";": " ", ":": " ",
    ">": " ", "!": "", "/": "", "-": "", "@": "", "*": "",
}
# fmt: on
# Combining characters for commands of a letter and for those that are none.
# fmt: off
ACCENTS: dict[str, str] = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", "\"": "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307", "u": "\u0306",
    "v": "\u030c", "H": "\u030b", "c": "\u0327", "k": "\u0328", "r": "\u030a", "d": "\u0323", "b": "\u0331", "t": "\u0361", "G": "\u030f",
    "U": "\u030e",
}
# fmt: on

# -- commands

# fmt: off
HEADINGS: dict[str, int] = {
    "part": 1, "chapter": 1, "addpart": 1, "addchap": 1, "section": 2, "addsec": 2, "subsection": 3, "subsubsection": 4, "Section": 2,
    "Chapter": 1, "specialsection": 2, "Subsection": 3,
}
# fmt: on
RUN_IN_HEADINGS = _words(
    """
    paragraph subparagraph subsubsubsection
    """
)
# Markers around an argument, and from a declaration to the end of its group.
STYLES = _all(
    {
        "emph textem textit textsl uline underline": "*",
        "strong textbf": "**",
        "texttt": "`",
    }
)
DECLARED = _all(
    {
        "em it itshape sl slshape": "*",
        "bf bfseries": "**",
        "tt ttfamily": "`",
    }
)
# Commands without arguments, or whose argument is text like that around them.
TRANSPARENT = _words(
    """
    Huge IEEEdisplaynontitleabstractindextext IEEEpeerreviewmaketitle LARGE Large MakeLowercase MakeUppercase NoCaseChange acresetall
    address affil affiliation allowbreak backmatter balance bigbreak blacksquare boldmath bottomrule break centering centerline
    collaboration compact correspondingauthor cortext curraddr dedicatory displaystyle doublespacing eject email emailAdd endfirsthead
    endfoot endgraf endhead endlastfoot expandafter fbox filbreak firsthline flushbottom footnotesize framebox frenchspacing
    frontmatter fussy global goodbreak hbox hfil hfill hline hss huge ignorespaces indent institute justify keyword keywords kw large
    lasthline leavevmode leftline listofalgorithms listoffigures listoftables long lowercase lstlistoflistings mainmatter makebox
    makeindex mbox md mdseries medbreak midrule narrower nobreak noexpand nofiles noindent nolinebreak nonfrenchspacing nonumber
    nopagebreak normalfont normalsize notag null obeylines obeyspaces onecolumn onehalfspacing outer pacs phantomsection preprint
    printindex protect protected qedsymbol raggedbottom raggedleft raggedright relax rightline rm rmfamily samepage sc scriptsize
    scshape selectfont sep sf sffamily singlespacing sloppy sloppypar small smallbreak strut subjclass subtitle tableofcontents text
    textmd textnormal textrm textsc textsf textstyle textsubscript textsuperscript textup the tightlist tiny toprule unboldmath unskip
    up uppercase upshape urladdr vbox vfil vfill vfilneg vss
    """
)
# Commands with arguments that are no text: * an optional star, o an optional argument, m a mandatory one, p optional parentheses,
# n a length or number that is assigned, c a register and its value.
SKIPPED = _all(
    {
        """
        DeclareGraphicsExtensions balancecolumns bibliographystyle corref counterwithin fnref graphicspath hyphenation inst
        linespread newcount newcounter newdimen newlength newsavebox newskip newtoks nocite pagenumbering pagestyle special thanksref
        theoremstyle thispagestyle tnoteref vadjust
        """: "m",
        "hspace vspace": "*m",
        """
        IEEEauthorrefmark arrayrulecolor captionsetup cellcolor color columncolor cormark externaldocument fnmark geometry glossary
        hphantom hypersetup includeonly index lstset mail markright mathversion orcid pagecolor pgfplotsset phantom refstepcounter
        rowcolor sisetup stepcounter tikzset usetheme usetikzlibrary vphantom
        """: "om",
        "addtocounter addtolength addtotoc definecolorset markboth setcounter setlength settowidth": "mm",
        "addcontentsline definecolor setdefaultlanguage": "mmm",
        "epsfbox epsffile epsfig includegraphics includepdf pgfimage psfig": "*oom",
        "DeclareSIUnit fontsize numberwithin pdfbookmark rule setmainfont": "omm",
        "addlinespace cline cmidrule morecmidrules": "pm",
        "LoadClass RequirePackage documentclass documentstyle usepackage": "omo",
        "enlargethispage linebreak nolinebreak pagebreak": "o",
        """
        abovedisplayskip arraystretch baselineskip baselinestretch belowdisplayskip bibsep bigskipamount columnsep evensidemargin
        footskip hangafter hangindent hbadness headheight headsep hfuzz hoffset hsize hskip itemsep jot kern leftmargin leftskip
        lineskip looseness lower magnification medskipamount moveleft moveright mskip oddsidemargin overfullrule pageno parfillskip
        parindent parsep parskip penalty pretolerance raise rightmargin rightskip spaceskip tabcolsep textheight textwidth tolerance
        topmargin topsep vbadness vfuzz voffset vsize vskip
        """: "n",
        "advance divide multiply": "cn",
        "newcolumntype": "mom",
        "DeclareFontShape DeclareMathAccent DeclareMathSizes DeclareMathSymbol SetMathAlphabet": "mmmm",
    }
)
# Commands with arguments before their text: what is skipped, then the text flows on.
BEFORE_TEXT = _all(
    {
        "colorbox rotatebox textcolor": "om",
        "fcolorbox": "omm",
        "parbox": "oom",
        "raisebox": "moo",
        "scalebox": "mo",
        "resizebox": "*mm",
        "multicolumn": "mm",
        "multirow": "omom",
        """
        Eprint acrodef adjustbox bibfield bibinfo eprint fontencoding fontfamily fontseries fontshape foreignlanguage hyperlink
        hypertarget selectlanguage textattachfile
        """: "m",
        "framebox makebox": "oo",
        "address affil affiliation ead email hyperref marginnote marginpar pacs subfigure subfloat subjclass todo": "o",
        "usefont": "mmmm",
    }
)
PARAGRAPHS = _words(
    """
    appendix bigbreak bigskip cleardoublepage clearpage endgraf medbreak medskip newpage par smallbreak smallskip vfill
    """
)
CITES = _words(
    """
    Autocite Cite Citep Citet Parencite Textcite autocite cite citeA citeN citeNP citealp citealp* citealt citeasnoun citeauthor
    citeauthoryear citen citenum citep cites citet citeyear citeyearpar footcite fullcite onlinecite parencite parencites
    possessivecite shortcite shortciteA shortciteN smartcite supercite textcite textcites
    """
)
REFERENCES = _words(
    """
    Cref Fref Vref autopageref autoref cpageref cref eqref figref fref hyperlinkref labelcref nameCref namecref nameref pageref
    prettyref ref refeq secref subref tabref thref vref zcref
    """
)
RANGES = _words(
    """
    Crefrange cpagerefrange crefrange
    """
)
# Front matter that is held until \maketitle.
FRONT = _words(
    """
    abstract address affil affiliation author date email institute keywords subtitle title
    """
)
DEFINITIONS = _words(
    """
    DeclareDocumentCommand DeclareMathOperator DeclarePairedDelimiter DeclareRobustCommand NewDocumentCommand
    NewExpandableDocumentCommand ProvideDocumentCommand RenewDocumentCommand def edef futurelet gdef let newcommand newif newrobustcmd
    providecommand providerobustcmd renewcommand renewrobustcmd xdef
    """
)
THEOREM_DEFINITIONS = _words(
    """
    declaretheorem newmdtheoremenv newtheorem newtheoremrep spnewtheorem
    """
)
INPUTS = _words(
    """
    import include includefrom input inputfrom subfile subimport subinputfrom
    """
)

# -- environments

# Displayed mathematics. Of the first, only the content is kept: they say no more than $$.
PLAIN_DISPLAYS = _words(
    """
    displaymath dmath dmath* equation equation* gequation
    """
)
DISPLAYS = PLAIN_DISPLAYS | _words(
    """
    Bmatrix CD IEEEeqnarray IEEEeqnarray* Vmatrix align align* alignat alignat* aligned alignedat array bmatrix cases darray darray*
    dcases dgroup dgroup* diagram empheq eqalign eqnarray eqnarray* equationarray equationarray* flalign flalign* gather gather*
    gathered mathpar mathpar* matrix multline multline* pmatrix prooftree psmatrix rcases smallmatrix split subarray tikzcd vmatrix
    xalignat xalignat* xxalignat xy
    """
)
INLINES = _words(
    """
    math
    """
)
VERBATIM = _words(
    """
    BVerbatim Code CodeInput CodeOutput LVerbatim SaveVerbatim Sinput Soutput Verbatim Verbatim* alltt code ipython lstinline
    lstlisting lstlisting* minted minted* pycode python sageblock sagesilent semiverbatim spverbatim verbatim verbatim* verbatimtab
    """
)
COMMENTS = _words(
    """
    comment
    """
)
PICTURES = _words(
    """
    asy asydef circuitikz feynman feynmandiagram filecontents filecontents* fmffile fmfgraph fmfgraph* forest luacode overpic
    pgfpicture pgfplot picture pspicture pspicture* tikzpicture tikzpicture*
    """
)
ALGORITHMS = _words(
    """
    algorithm2e algorithm2e* algorithmic algorithmic* algpseudocode pseudocode
    """
)
TABLES = _words(
    """
    NiceTabular deluxetable deluxetable* longtable longtable* longtabu mpsupertabular mpsupertabular* supertabular supertabular*
    tabbing tabu tabular tabular* tabularew tabularray tabularx tabulary tblr xltabular xtabular
    """
)
# Arguments of tables; the others have om.
# fmt: off
TABLE_ARGUMENTS: dict[str, str] = {
    "tabular*": "mom", "tabularx": "mom", "tabulary": "mom", "supertabular*": "mom", "mpsupertabular*": "mom", "xltabular": "mom",
    "tabbing": "", "deluxetable": "om", "deluxetable*": "om",
}
# fmt: on
LISTS = _all(
    {
        "asparaitem compactitem dinglist inparaitem itemize itemize* list tightitemize trivlist": "-",
        "asparaenum compactenum dingautolist enumerate enumerate* enumeratei inparaenum steps": "1",
        "acronym compactdesc description labeling": "",
    }
)
FLOATS = _all(
    {
        "SCfigure figure figure* figwindow floatingfigure sidewaysfigure subfigure wrapfigure": "Figure",
        "deluxetable longtable sidewaystable sidewaystable* subtable table table* wraptable": "Table",
        "algorithm algorithm*": "Algorithm",
    }
)
# Arguments behind \begin{...} that are no text; others have an optional one.
# fmt: off
ENVIRONMENT_ARGUMENTS: dict[str, str] = {
    "minipage": "ooom", "multicols": "mo", "wrapfigure": "omom", "wraptable": "omom", "thebibliography": "m", "list": "mm",
    "adjustbox": "m", "spacing": "m", "adjustwidth": "mm", "textblock": "m", "tcolorbox": "o", "columns": "o", "column": "om",
    "frame": "oo", "labeling": "om", "turn": "m", "rotate": "m", "SCfigure": "oo", "floatingfigure": "m", "addmargin": "om",
    "otherlanguage": "m", "changemargin": "mm", "mdframed": "o", "dinglist": "m", "dingautolist": "m", "subtable": "om",
    "subfigure": "om", "acronym": "o", "supertabular": "om", "tabbing": "", "document": "",
}
# fmt: on
SECTION_ENVIRONMENTS = _all(
    {
        "ack acknowledgement acknowledgements acknowledgment acknowledgments acks": "Acknowledgments",
        "abstract onecolabstract": "Abstract",
    }
)
LABELLED_ENVIRONMENTS = _all(
    {
        "AMS IEEEkeywords MSCcodes keyword keywords": "Keywords",
    }
)
PROOFS = _all(
    {
        "IEEEproof Proof pf proof proofof": "Proof",
        "solution": "Solution",
    }
)
# Environments of classes that define theorems by themselves; a paper's \newtheorem comes first.
# fmt: off
THEOREMS: dict[str, str] = {
    "theorem": "Theorem", "lemma": "Lemma", "proposition": "Proposition", "corollary": "Corollary", "definition": "Definition",
    "remark": "Remark", "example": "Example", "conjecture": "Conjecture", "claim": "Claim", "fact": "Fact", "observation": "Observation",
    "assumption": "Assumption", "axiom": "Axiom", "hypothesis": "Hypothesis", "exercise": "Exercise", "problem": "Problem",
    "question": "Question", "notation": "Notation", "note": "Note", "condition": "Condition", "property": "Property", "case": "Case",
    "result": "Result", "step": "Step", "conclusion": "Conclusion", "criterion": "Criterion", "thm": "Theorem", "lem": "Lemma",
    "prop": "Proposition", "cor": "Corollary", "defn": "Definition", "rem": "Remark", "conj": "Conjecture",
}
# fmt: on
# fmt: off
ALGORITHM_WORDS: dict[str, str] = {
    "State": "", "STATE": "", "Statex": "", "Require": "Require:", "REQUIRE": "Require:", "Ensure": "Ensure:", "ENSURE": "Ensure:",
    "If": "if", "IF": "if", "ElsIf": "else if", "ELSIF": "else if", "Else": "else", "ELSE": "else", "EndIf": "end if", "ENDIF": "end if",
    "For": "for", "FOR": "for", "ForAll": "for all", "FORALL": "for all", "ForEach": "for each", "EndFor": "end for", "ENDFOR": "end for",
    "While": "while", "WHILE": "while", "EndWhile": "end while", "ENDWHILE": "end while", "Repeat": "repeat", "REPEAT": "repeat",
    "Until": "until", "UNTIL": "until", "Loop": "loop", "LOOP": "loop", "EndLoop": "end loop", "ENDLOOP": "end loop",
    "Procedure": "procedure", "EndProcedure": "end procedure", "Function": "function", "EndFunction": "end function", "KwIn": "Input:",
    "KwOut": "Output:", "KwData": "Data:", "KwResult": "Result:", "Input": "Input:", "Output": "Output:", "uIf": "if", "eIf": "if",
    "ElseIf": "else if", "uElseIf": "else if", "uElse": "else", "lIf": "if", "RETURN": "return", "PRINT": "print",
}
# fmt: on
# fmt: off
ALGORITHM_INLINE: dict[str, str] = {
    "Return": " return ", "KwRet": "return ", "KwTo": " to ", "To": " to ", "AND": " and ", "OR": " or ", "NOT": " not ", "TRUE": "true",
    "FALSE": "false", "Comment": " // ", "COMMENT": " // ", "tcp": " // ", "tcc": " // ", "Call": " ", "TO": " to ",
}
# fmt: on
