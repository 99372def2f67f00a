"""What a FASTA header says: UniProt, UniRef, UniParc, NCBI, PDB and Ensembl headers in parts, any other as a name and a description.

Cost: 2 to 5 µs a header. An accession counts where the header names its database or where its shape can be no other's; a bare `P04540`
may be UniProt's or GenBank's and stays a name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

OTHERS = 1000  # headers of one record that are kept beside the first


class Header(NamedTuple):
    database: str | None = None  # uniprot, uniref, uniparc, ncbi, pdb, ensembl: where the accession is known
    accession: str | None = None
    version: int | None = None
    name: str | None = None  # the entry's name, or the first word of a header of no known form
    description: str | None = None
    organism: str | None = None
    taxon: int | None = None  # NCBI's number
    gene: str | None = None
    existence: int | None = None  # UniProt: 1 seen as protein, 2 as transcript, 3 by homology, 4 predicted, 5 uncertain
    molecule: str | None = None  # protein or nucleotide, where the header tells

    @property
    def id(self) -> str | None:
        """The same wherever the record is found; None when nothing in the header is."""
        if self.database is None:
            return None
        return f"{self.database}:{self.accession}" + (f".{self.version}" if self.version is not None and self.database != "uniprot" else "")


_UNIPROT = re.compile(r"(?:sp|tr)\|([A-Z0-9]{6,10}(?:-\d{1,4})?)\|(\S*)(?:\s+(.*))?")
_UNIPROT_KEYS = re.compile(r"(?:\A|\s)(OS|OX|GN|PE|SV)=")
_UNIREF = re.compile(r"(UniRef\d{2,3}_[\w-]+)(?:\s+(.*))?")
_UNIREF_KEYS = re.compile(r"(?:\A|\s)(n|Tax|TaxID|RepID)=")
_UNIPARC = re.compile(r"(UPI[0-9A-F]{10})\b\s*(.*)")
_VERSIONED = re.compile(r"(.+)\.(\d{1,6})")
# RefSeq (NP_000001.1, NZ_ABCD01000001.1); proteins (AAA12345.1), nucleotides (AB123456.1) and whole genomes (ABCD01000001.1) of GenBank
_REFSEQ = re.compile(r"([A-Z]{2}_(?:[A-Z]{4,6})?\d{6,12})\.(\d{1,4})")
_GENBANK = re.compile(r"([A-Z]{3}\d{5}|[A-Z]{3}\d{7}|[A-Z]\d{5}|[A-Z]{2}\d{6}|[A-Z]{2}\d{8}|[A-Z]{4,6}\d{8,11})\.(\d{1,4})")
_ENSEMBL = re.compile(r"(ENS[A-Z]{0,6}[PTGE]\d{11})(?:\.(\d{1,4}))?")
_ENSEMBL_KEYS = re.compile(r"(?:\A|\s)(gene_symbol|gene|description):")
_PDB_ENTRY = re.compile(r"(\d[A-Za-z0-9]{3}_\w{1,4})\|Chains? ([^|]*)\|([^|]*)\|(.*)")
_TAXON = re.compile(r"(.*?)\s*\((\d{1,9})\)")
_ATTRIBUTE = re.compile(r"\[(gene|protein|organism)=([^\[\]]*)\]")

# NCBI's marks of databases, and how many fields follow each.
_FIELDS = {"gi": 1, "ref": 2, "gb": 2, "emb": 2, "dbj": 2, "tpg": 2, "tpe": 2, "tpd": 2, "pir": 2, "prf": 2, "sp": 2, "tr": 2, "pdb": 2}
_FIELDS |= {"lcl": 1, "gnl": 2, "bbs": 1, "bbm": 1, "gim": 1, "pat": 3, "gpp": 2, "nat": 2}
_NCBI = frozenset({"ref", "gb", "emb", "dbj", "tpg", "tpe", "tpd", "pir", "prf"})
_PROTEIN_REFSEQ = frozenset({"NP", "XP", "YP", "WP", "AP", "ZP"})


def parse(line: str) -> Header:
    """`line` without its `>`: one header."""
    if line.startswith(("sp|", "tr|")) and (match := _UNIPROT.match(line)):
        return _uniprot(match)
    word, _, rest = line.partition(" ")
    if "\t" in word:
        word, _, rest = line.partition("\t")
    rest = rest.strip()
    if "|" in word or _PDB_ENTRY.match(line):
        return _piped(line, word, rest)
    if match := _UNIREF.match(line):
        keys, text = _keys(_UNIREF_KEYS, match[2] or "")
        return Header("uniref", match[1], None, None, text, keys.get("Tax"), _number(keys.get("TaxID")), molecule="protein")
    if match := _UNIPARC.match(line):
        return Header("uniparc", match[1], description=match[2] or None, molecule="protein")
    if match := _ENSEMBL.fullmatch(word):
        return _ensembl(match, rest)
    if (match := _REFSEQ.fullmatch(word)) or (match := _GENBANK.fullmatch(word)):
        return _described(Header("ncbi", match[1], int(match[2]), molecule=_molecule(match[1])), rest)
    return _described(Header(name=word or None), rest)


def _uniprot(match: re.Match[str]) -> Header:
    keys, text = _keys(_UNIPROT_KEYS, match[3] or "")
    taxon, existence, version = _number(keys.get("OX")), _number(keys.get("PE")), _number(keys.get("SV"))
    return Header("uniprot", match[1], version, match[2] or None, text, keys.get("OS"), taxon, keys.get("GN"), existence, "protein")


def _keys(pattern: re.Pattern[str], text: str) -> tuple[dict[str, str], str | None]:
    """`text` up to the first key, and the values of the keys; of two of one name the last counts."""
    parts = pattern.split(text)
    return {key: value.strip() for key, value in zip(parts[1::2], parts[2::2], strict=True)}, parts[0].strip() or None


def _number(text: str | None) -> int | None:
    """The number that `text` begins with; tools put words of their own behind it."""
    word = text.split(" ", 1)[0] if text else ""
    return int(word) if len(word) < 10 and word.isascii() and word.isdigit() else None


def _molecule(accession: str) -> str | None:
    if accession[2:3] == "_":
        return "protein" if accession[:2] in _PROTEIN_REFSEQ else "nucleotide"
    return "protein" if re.match(r"[A-Z]{3}\d", accession) else None


def _described(header: Header, text: str) -> Header:
    """With what NCBI writes behind the accession: a description and the organism in brackets, or attributes in brackets."""
    if not text.endswith("]"):
        return header._replace(description=text or None)
    if attributes := dict(_ATTRIBUTE.findall(text)):
        said = attributes.get("protein") or text
        return header._replace(description=said, gene=attributes.get("gene"), organism=attributes.get("organism"))
    depth = 0
    for index in range(len(text) - 1, max(-1, len(text) - 300), -1):
        depth += (text[index] == "]") - (text[index] == "[")
        if depth == 0:
            return header._replace(description=text[:index].strip() or None, organism=text[index + 1 : -1].strip() or None)
    return header._replace(description=text)


def _piped(line: str, word: str, rest: str) -> Header:
    if match := _PDB_ENTRY.match(line):
        source = _TAXON.fullmatch(match[4].strip())
        organism, taxon = (source[1], int(source[2])) if source else (match[4].strip() or None, None)
        return Header("pdb", match[1], description=match[3].strip() or None, organism=organism, taxon=taxon)
    fields = word.split("|")
    found = Header()
    index = 0
    while index < len(fields) and fields[index] in _FIELDS:
        mark, values = fields[index], fields[index + 1 : index + 1 + _FIELDS[fields[index]]]
        index += 1 + _FIELDS[mark]
        if found.database is None and (known := _marked(mark, [*values, "", ""])):
            found = known
    if index == 0:  # bars of some other custom
        return _described(Header(name=word), rest)
    name = found.name or next((field for field in fields[index:] if field), None)
    return _described(found._replace(name=name), rest)


def _marked(mark: str, values: list[str]) -> Header | None:
    """The record that one of NCBI's marks and its fields name; None for a number of NCBI's, which is no accession."""
    first, second = values[:2]
    if mark in _NCBI and (first or second):
        accession, version = first or second, None
        if match := _VERSIONED.fullmatch(accession):
            accession, version = match[1], int(match[2])
        molecule = "protein" if mark in ("pir", "prf") else _molecule(accession)
        return Header("ncbi", accession, version, (second or None) if first else None, molecule=molecule)
    if mark == "pdb" and first:
        return Header("pdb", f"{first}_{second}" if second else first)
    if mark in ("sp", "tr") and first:
        accession, _, number = first.partition(".")
        return Header("uniprot", accession, _number(number), second or None, molecule="protein")
    if mark == "lcl":
        return Header(name=first or None)
    return Header(name=f"{first}:{second}") if mark == "gnl" and second else None


def _ensembl(match: re.Match[str], rest: str) -> Header:
    keys, _ = _keys(_ENSEMBL_KEYS, rest)
    kind = rest.partition(" ")[0]
    molecule = "protein" if kind == "pep" else "nucleotide" if kind in ("cdna", "cds", "ncrna", "dna") else None
    gene = keys.get("gene_symbol") or keys.get("gene", "").partition(" ")[0] or None
    number = int(match[2]) if match[2] else None
    return Header("ensembl", match[1], number, None, keys.get("description"), None, None, gene, None, molecule)
