"""The protein source against Biopython: the same titles and sequences, whatever the extents; one thing for each record."""

from __future__ import annotations

import bz2
import gzip
import io
import random
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
import zstandard

from codedev.corpus import records
from codedev.corpus.document import DOCUMENT
from codedev.corpus.source import Document, Drop, Failure
from codedev.corpus.sources.protein import source as protein
from codedev.corpus.sources.protein.header import Header, parse

Thing = Document | Drop | Failure
ROOT = Path(__file__).parent.parent


def config(**keys: Any) -> protein.Config:
    return protein.Config(type="protein", name="s", **{"paths": ("a",), **keys})


def read(folder: Path, content: bytes, unit_bytes: int = 1 << 40, **keys: Any) -> list[Thing]:
    """What the source makes of one file; all of it must fit into the corpus's schemas."""
    path = folder / "a"
    path.write_bytes(content)
    return read_paths(config(**keys), folder, unit_bytes)


def read_paths(chosen: protein.Config, folder: Path, unit_bytes: int = 1 << 40) -> list[Thing]:
    reader = records.Reader(chosen, folder)
    extents = [extent._replace(hash="h") for extent in protein.plan(chosen, folder, unit_bytes)]
    things: list[Thing] = []
    for batch in [*reader.batches(extents), *reader.drop_batches(), *reader.failure_batches()]:
        batch.validate(full=True)
    for extent in extents:
        for thing in protein.read(extent, chosen, folder):
            things += rows(thing) if isinstance(thing, pa.RecordBatch) else [thing]
    kinds = [type(thing) for thing in things]
    assert reader.counts["rows_in"] == len(things)
    assert reader.counts["rows_out"] == kinds.count(Document)
    return things


def rows(batch: pa.RecordBatch) -> list[Thing]:
    """A batch's rows as the Documents they would have been; the licence that the recipe gives is the corpus's to give."""
    batch.validate(full=True)
    assert batch.schema.equals(DOCUMENT)
    found: list[Thing] = []
    for row in batch.to_pylist():
        origin = row["origin"]
        place = (origin["offset"], origin["length"], origin["member"])
        found.append(Document(row["id"], row["text"], *place, licence=row["licence"], meta=row["meta"]))
    return found


def texts(things: list[Thing]) -> list[str]:
    return [thing.text for thing in things if isinstance(thing, Document)]


def meta(thing: Thing) -> dict[str, Any]:
    assert isinstance(thing, Document | Drop)
    found: dict[str, Any] = orjson.loads(thing.meta)
    return found


def one(folder: Path, content: bytes, **keys: Any) -> Thing:
    (thing,) = read(folder, content, **keys)
    return thing


# -- headers ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "identity", "expected"),
    [
        (
            "sp|P12345|NAME_HUMAN Some protein, putative OS=Homo sapiens (Human) OX=9606 GN=ab C PE=1 SV=2",
            "uniprot:P12345",
            Header("uniprot", "P12345", 2, "NAME_HUMAN", "Some protein, putative", "Homo sapiens (Human)", 9606, "ab C", 1, "protein"),
        ),
        (
            "tr|A0A000AAA1-2|X_Y Isoform OS=Z OX=1 SV=1",
            "uniprot:A0A000AAA1-2",
            Header("uniprot", "A0A000AAA1-2", 1, "X_Y", "Isoform", "Z", 1, None, None, "protein"),
        ),
        ("sp|P12345|", "uniprot:P12345", Header("uniprot", "P12345", molecule="protein")),
        (
            "UniRef90_P12345 Cluster: x n=3 Tax=Homo TaxID=9605 RepID=A_B",
            "uniref:UniRef90_P12345",
            Header("uniref", "UniRef90_P12345", None, None, "Cluster: x", "Homo", 9605, molecule="protein"),
        ),
        (
            "UPI0000000001 status=active",
            "uniparc:UPI0000000001",
            Header("uniparc", "UPI0000000001", None, None, "status=active", molecule="protein"),
        ),
        (
            "NP_000001.1 desc [x] y [Escherichia coli [K12]]",
            "ncbi:NP_000001.1",
            Header("ncbi", "NP_000001", 1, None, "desc [x] y", "Escherichia coli [K12]", molecule="protein"),
        ),
        (
            "NC_000001.11 Homo sapiens chromosome 1",
            "ncbi:NC_000001.11",
            Header("ncbi", "NC_000001", 11, None, "Homo sapiens chromosome 1", molecule="nucleotide"),
        ),
        ("gi|12|ref|NP_1.2| a [B c]", "ncbi:NP_1.2", Header("ncbi", "NP_1", 2, None, "a", "B c", molecule="protein")),
        ("gi|2765658|emb|Z78533.1|CIZ78533 C.irapeanum gene", "ncbi:Z78533.1", Header("ncbi", "Z78533", 1, "CIZ78533", "C.irapeanum gene")),
        ("gb|AAA12345.1| a", "ncbi:AAA12345.1", Header("ncbi", "AAA12345", 1, None, "a", molecule="protein")),
        (
            "gi|1|sp|P12345.3|NAME_X RecName [Y z]",
            "uniprot:P12345",
            Header("uniprot", "P12345", 3, "NAME_X", "RecName", "Y z", molecule="protein"),
        ),
        ("pdb|1ABC|A Chain A", "pdb:1ABC_A", Header("pdb", "1ABC_A", None, None, "Chain A")),
        (
            "1ABC_1|Chains A, B|Lysozyme|Gallus gallus (9031)",
            "pdb:1ABC_1",
            Header("pdb", "1ABC_1", None, None, "Lysozyme", "Gallus gallus", 9031),
        ),
        ("lcl|name some text", None, Header(name="name", description="some text")),
        ("lcl|NC_1_cds [gene=x] [protein=Y z] [organism=O]", None, Header(name="NC_1_cds", description="Y z", gene="x", organism="O")),
        (
            "ENSP00000000001.4 pep chromosome:GRCh38:1:1:2:1 gene:ENSG00000000001.5 gene_symbol:ABC description:a b",
            "ensembl:ENSP00000000001.4",
            Header("ensembl", "ENSP00000000001", 4, None, "a b", None, None, "ABC", None, "protein"),
        ),
        ("alpha (again) beta", None, Header(name="alpha", description="(again) beta")),
        ("a|b|c x", None, Header(name="a|b|c", description="x")),
        ("", None, Header()),
        ("gi|", None, Header()),
        ("sp|", None, Header()),
        ("pdb||", None, Header()),
    ],
)
def test_headers(line: str, identity: str | None, expected: Header) -> None:
    assert parse(line) == expected
    assert parse(line).id == identity


def test_headers_of_chance_never_raise() -> None:
    chance = random.Random(0)
    bits = [
        "sp|",
        "tr|",
        "gi|",
        "ref|",
        "pdb|",
        "|",
        " ",
        "OS=",
        "OX=",
        "9" * 12,
        "PE=",
        "[",
        "]",
        "NP_000001.1",
        "UniRef50_",
        "=",
        "\t",
        "ü",
        "ENSP00000000001",
        ".",
    ]
    for _ in range(5000):
        parse("".join(chance.choices(bits, k=chance.randrange(12))).strip())
    started = time.thread_time()
    for hostile in (
        "[" * 200_000 + "]",
        "]" * 200_000,
        "gi|" * 100_000,
        "sp|P12345|" + " OS=" * 100_000,
        "[gene=" * 50_000 + "]",
        " " * 300_000 + "]",
    ):
        parse(hostile.strip())
    assert time.thread_time() - started < 2


# -- records ---------------------------------------------------------------------------------------------------------------------------


def test_a_record(tmp_path: Path) -> None:
    raw = b">sp|P12345|A_B Desc OS=O OX=1 GN=g PE=1 SV=2\nMKV\nLLi\n\n"
    thing = one(tmp_path, raw)
    assert isinstance(thing, Document)
    assert (thing.id, thing.text, thing.licence, thing.offset, thing.length, thing.created) == (
        "uniprot:P12345",
        "MKVLLI",
        "CC-BY-4.0",
        0,
        len(raw),
        None,
    )
    assert meta(thing) == {
        "accession": "P12345", "database": "uniprot", "description": "Desc", "existence": 1, "gene": "g", "length": 6, "masked": 1,
        "molecule": "protein", "name": "A_B", "organism": "O", "taxon": 1, "version": 2,
    }  # fmt: skip


def test_line_ends_comments_and_blanks(tmp_path: Path) -> None:
    plain = b";c\n>a b\nMK V\n;c\n\n L\n#c\n>c\nWW\n!x"
    for end in (b"\n", b"\r\n", b"\r"):
        for mark in (b"", b"\xef\xbb\xbf"):
            things = read(tmp_path, mark + plain.replace(b"\n", end))
            assert [type(thing) for thing in things] == [Drop, Document, Document]
            assert texts(things) == ["MKVL", "WW"]
            assert isinstance(things[0], Drop)
            assert things[0].reason == "preamble"
            assert meta(things[1])["comments"] == 2
    assert texts(read(tmp_path, b"\xef\xbb\xbf>a\nMM")) == ["MM"]
    assert texts(read(tmp_path, b"\n\n>a\nMM")) == ["MM"]


def test_one_thing_for_each_record(tmp_path: Path) -> None:
    things = read(tmp_path, b"> \nMKL\n>\n>b\nM1\n>c\n>d\nMK>L\n>e", min_length=1)
    assert [getattr(thing, "reason", getattr(thing, "kind", None)) for thing in things] == [
        None,
        "empty",
        "bad_residue",
        "empty",
        "bad_residue",
        "empty",
    ]
    failure = things[2]
    assert isinstance(failure, Failure)
    assert "residue 2 of 2 is '1', which protein has not" in failure.message
    assert failure.offset == 9


def test_headers_joined_by_control_a(tmp_path: Path) -> None:
    thing = one(tmp_path, b">NP_000001.1 a [B]\x01XP_000002.1 c [D]\x01gi|3\nMKLL\n")
    assert isinstance(thing, Document)
    assert thing.id == "ncbi:NP_000001.1"
    assert meta(thing)["others"] == ["XP_000002.1 c [D]", "gi|3"]
    assert meta(thing)["others_count"] == 2


@pytest.mark.parametrize(
    ("sequence", "keys", "expected"),
    [
        (b"MKL*", {}, "MKL"),
        (b"MKL*", {"stops": "keep"}, "MKL*"),
        (b"MKL*", {"stops": "refuse"}, None),
        (b"MK*L", {}, None),
        (b"M*K*", {"stops": "keep"}, "M*K*"),
        (b"MK-L", {}, None),
        (b"MK-L", {"gaps": "remove"}, "MKL"),
        (b"MK-l", {"gaps": "keep", "case": "keep"}, "MK-l"),
        (b"mkl", {"case": "keep"}, "mkl"),
        (b"BZXJUO", {}, "BZXJUO"),
        (b"MK.L", {}, None),
        (b"MK\xc3\xa4", {}, None),
        (b"MK\0", {"alphabet": "protein"}, None),
        (b"ACGTN", {"alphabet": "dna"}, "ACGTN"),
        (b"ACGU", {"alphabet": "dna"}, None),
        (b"ACGT", {"alphabet": "rna"}, None),
        (b"ACGE", {"alphabet": "dna"}, None),
        (b"ACGT*", {"alphabet": "dna", "stops": "keep"}, None),
        (b"RYSWKMBDHVN", {"alphabet": "dna"}, "RYSWKMBDHVN"),
    ],
)
def test_alphabets(tmp_path: Path, sequence: bytes, keys: dict[str, Any], expected: str | None) -> None:
    thing = one(tmp_path, b">a\n" + sequence + b"\n" if b"\0" not in sequence else b">a\n" + b"M" * 600 + b"\n" + sequence, **keys)
    if expected is None:
        assert isinstance(thing, Failure)
        assert thing.kind == "bad_residue"
    else:
        assert isinstance(thing, Document)
        assert thing.text == expected


@pytest.mark.parametrize(
    ("header", "sequence", "molecule"),
    [
        (b"a", b"ACGTACGTNN", "dna"),
        (b"a", b"acguacguaa", "rna"),
        (b"a", b"MKLLVACGT", "protein"),
        (b"a", b"ACGTACGTACGTACGTACGTRY", "dna"),
        (b"a", b"ACGTACGTACGTACGTACGTE", "protein"),
        (b"sp|P12345|A_B x OS=O", b"GAGAGAGA", "protein"),
        (b"NP_000001.1 x", b"GAGAGAGA", "protein"),
        (b"NM_000001.1 x", b"GAGAGARR", "dna"),
        (b"NR_000001.1 x", b"GAGAUU", "rna"),
    ],
)
def test_molecules(tmp_path: Path, header: bytes, sequence: bytes, molecule: str) -> None:
    assert meta(one(tmp_path, b">" + header + b"\n" + sequence))["molecule"] == molecule


def test_what_the_recipe_drops(tmp_path: Path) -> None:
    content = b">sp|P00001|A_B x PE=5\nMKLLL\n>sp|P00002|A_B x PE=3\nMKL\n>c\nMKLLLLLL\n>d\nMKLLL\n"
    things = read(tmp_path, content, min_length=4, max_length=6, max_existence_level=4)
    assert [getattr(thing, "reason", "kept") for thing in things] == ["existence", "too_short", "too_long", "kept"]
    assert isinstance(things[0], Drop)
    assert things[0].id == "uniprot:P00001"


@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        (b">P1;CRAB_ANAPL\nALPHA CRYSTALLIN\nMDITI*\n", "PIR"),
        (b"@read\nACGT\n+\nIIII\n", "FASTQ"),
        (b"LOCUS       AB1 1 bp\n", "GenBank"),
        (b"ID   A_B Reviewed;\n", "EMBL or Swiss-Prot"),
        (b"CLUSTAL W\n\na  MK\n", "Clustal"),
        (b"# STOCKHOLM 1.0\n", "Stockholm"),
        (b"##gff-version 3\n##FASTA\n>a\nACGT\n", "GFF"),
        (b"BEGIN_SEQUENCE x\n", "PHD"),
        (b"  2 10\nalpha ACGT\n", "PHYLIP"),
        (b"<html>\n>x\n", "XML or HTML"),
        (b'{"a": 1}', "JSON"),
        (b"sequence,target\nMKL,1\n", "CSV"),
        (b"ABIF\0\1\2\n>\0", "a binary file"),
        (b"words\n", "text"),
    ],
)
def test_other_files_are_one_drop(tmp_path: Path, content: bytes, looks_like: str) -> None:
    for unit_bytes in (4, 1 << 40):
        (thing,) = read(tmp_path, content, unit_bytes)
        assert isinstance(thing, Drop)
        assert thing.reason == "not_fasta"
        assert orjson.loads(thing.evidence) == {"looks_like": looks_like}


def test_empty_files(tmp_path: Path) -> None:
    for content in (b"", b"\n \n", gzip.compress(b"")):
        thing = one(tmp_path, content)
        assert isinstance(thing, Failure)
        assert thing.kind == "empty"


def test_any_extents_give_the_same(tmp_path: Path) -> None:
    chance = random.Random(1)
    for end in (b"\n", b"\r\n", b"\r"):
        lines = [b"# first"]
        for number in range(60):
            lines.append(chance.choice([b">r%d x" % number, b">sp|P%05d|A_B x OS=o PE=2" % number, b">", b">>", b"> >a"]))
            lines += [
                bytes(chance.choices(b"MKLVDE-*;> 1e", [9, 9, 9, 9, 9, 9, 1, 1, 1, 1, 1, 1, 3], k=chance.randrange(40)))
                for _ in range(chance.randrange(4))
            ]
        content = end.join(lines)
        whole = read(tmp_path, content)
        assert len(whole) == sum(line.startswith(b">") for line in lines) + 1
        for unit_bytes in (1, 2, 7, 64, 1000):
            assert read(tmp_path, content, unit_bytes) == whole


def test_small_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"\xef\xbb\xbf;x\r\n>a\r\nMKL\r\nLLL\r\n>b b\r\nMK\r\n" * 3
    whole = read(tmp_path, content)
    for size in (1, 2, 3, 5, 16):
        monkeypatch.setattr(protein, "_BLOCK", size)
        assert read(tmp_path, content) == whole


def test_too_large_without_holding_it(tmp_path: Path) -> None:
    for line in (60, 1 << 40):
        sequence = b"ACGT" * 3_000_000
        body = b"\n".join(sequence[at : at + 60] for at in range(0, 12_000_000, 60)) if line == 60 else sequence
        path = tmp_path / "a"
        path.write_bytes(b">x\nACGT\n>chr1 long\n" + body + b"\n>y\nACGT\n")
        del body, sequence
        chosen = config(max_record_bytes=1 << 20)
        tracemalloc.start()
        things = [thing for extent in protein.plan(chosen, tmp_path, 1 << 40) for thing in protein.read(extent, chosen, tmp_path)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [getattr(thing, "kind", None) for thing in things] == [None, "too_large", None]
        assert texts(things) == ["ACGT", "ACGT"]
        assert isinstance(things[1], Failure)
        assert things[1].offset == 8
        assert things[1].raw.startswith(b">chr1 long\nACGT")
        assert peak < 8 << 20
        assert read_paths(chosen, tmp_path, 1 << 20) == read_paths(chosen, tmp_path)


def test_a_long_chromosome_is_read_in_linear_time(tmp_path: Path) -> None:
    started = time.thread_time()
    thing = one(tmp_path, b">chr1\n" + (b"ACGT" * 15 + b"\n") * 500_000)
    assert isinstance(thing, Document)
    assert len(thing.text) == 30_000_000
    assert time.thread_time() - started < 5


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, zstandard.compress])
def test_compressed(tmp_path: Path, packed: Any) -> None:
    content = b"".join(b">r%d\nMKL%s\n" % (number, b"L" * number) for number in range(200))
    assert texts(read(tmp_path, packed(content), 64)) == texts(read(tmp_path, content))
    clipped = packed(
        random.Random(0)
        .randbytes(1000)
        .hex()
        .upper()
        .translate(str.maketrans("0123456789", "GHIKLMNPQR"))
        .encode()
        .join([b">a\n", b"\n>b\nMKL\n"])
    )[:-20]
    things = read(tmp_path, clipped)
    assert isinstance(things[-1], Failure)
    assert things[-1].kind in ("truncated", "corrupt")


def test_a_bomb(tmp_path: Path) -> None:
    thing = read(tmp_path, gzip.compress(b">a\n" + b"A" * (80 << 20)), max_ratio=100)[-1]
    assert isinstance(thing, Failure)
    assert thing.kind == "bomb"


def test_archives(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/one.fasta", ">a\nMKL\n>b\nMKLL\n")
        archive.writestr("b/two.fasta.gz", gzip.compress(b">a\nMKLLL\n"))
        archive.writestr("b/table.csv", "sequence,target\nMKL,1\n")
        archive.writestr("../evil.fasta", ">x\nMKL\n")
    things = read(tmp_path, buffer.getvalue())
    assert texts(things) == ["MKL", "MKLL", "MKLLL"]
    assert [(thing.member, getattr(thing, "reason", getattr(thing, "kind", None))) for thing in things][3:] == [
        ("b/table.csv", "not_fasta"),
        ("../evil.fasta", "unsafe_path"),
    ]
    assert len({thing.id for thing in things if isinstance(thing, Document)}) == 3
    assert read(tmp_path, buffer.getvalue(), 16) == things
    damaged = bytearray(buffer.getvalue())
    damaged[60] ^= 255
    assert any(isinstance(thing, Failure) for thing in read(tmp_path, bytes(damaged)))


def test_damage_never_raises(tmp_path: Path) -> None:
    base = b";c\n>sp|P12345|A_B x OS=o OX=1\r\nMKL\n>b\x01c\nAC-GT*\n"
    for seed in range(300):
        chance = random.Random(seed)
        content = bytearray(base * 2)
        for _ in range(6):
            content[chance.randrange(len(content))] = chance.choice(b"\r\n>;\0\xff |\x01*-")
        things = read(tmp_path, bytes(content))
        assert (
            things == read(tmp_path, bytes(content), 5) or b"\0" in content or any(getattr(t, "reason", "") == "not_fasta" for t in things)
        )


def _one_by_one(chosen: protein.Config, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Thing]:
    """The same without record batches."""
    with monkeypatch.context() as patch:
        patch.setattr(protein, "_usual", lambda spans, kinds, config: kinds > 99)
        return read_paths(chosen, folder)


def test_batches_hold_what_single_records_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers and residues of chance: the kernel says of each what the plain reader says, or leaves it to that."""
    bits = [
        "OS=",
        "OX=",
        "GN=",
        "PE=",
        "SV=",
        " ",
        "  ",
        "Homo",
        "9606",
        "007",
        "1",
        "7",
        "[x]",
        "|",
        '"',
        "\\",
        "ü",
        "\t",
        "a-b",
        "x.1",
        "=",
        "OS",
    ]
    starts = [
        "sp|P12345|A_B",
        "tr|A0A000AAA1|X",
        "sp|P12345-2|A",
        "sp||A",
        "sp|P12345|",
        "name",
        "UniRef50_A",
        "UPI0000000001",
        "NP_000001.1",
        "ENSP00000000001",
        " ",
        "",
    ]
    starts += [
        "gi|1|sp|P12345",
        "sp|P12345|A|b",
        "sp|p12345|A",
        "sp|P12345",
        "pdb|1ABC|A",
        "1ABC_1|Chain A|b|c",
        "X",
        "lcl|a",
        "spx|P12345|A",
        "s",
        "U",
        "En",
    ]
    batches = 0
    for seed in range(30):
        chance = random.Random(seed)
        parts = []
        for _ in range(200):
            header = (
                chance.choice(starts)
                + chance.choice(["", " "])
                + "".join(chance.choice(["", " "]) + chance.choice(bits) for _ in range(chance.randrange(9)))
            )
            residues = chance.choice(["MKVLEDRST", "ACGT", "ACGU", "MKvl", "MK-L", "MKL*", "MK1"])
            lines = ["".join(chance.choices(residues, k=chance.randrange(30))) for _ in range(chance.randrange(4))]
            parts.append("\n".join([">" + header, *lines]) + "\n")
        content = "".join(parts).encode()
        (tmp_path / "a").write_bytes(content)
        for keys in ({}, {"alphabet": "protein", "min_length": 5, "max_length": 50, "max_existence_level": 3}, {"alphabet": "dna"}):
            chosen = config(**keys)
            extent = next(protein.plan(chosen, tmp_path, 1 << 40))._replace(hash="h")
            batches += sum(isinstance(thing, pa.RecordBatch) for thing in protein.read(extent, chosen, tmp_path))
            assert read_paths(chosen, tmp_path) == _one_by_one(chosen, tmp_path, monkeypatch)
    assert batches > 300


# -- the real files --------------------------------------------------------------------------------------------------------------------

PLACES = ("biopython__biopython", "soedinglab__MMseqs2", "tseemann__prokka", "J-SNACKKB__FLIP")


@pytest.mark.realdata
def test_every_real_file_as_biopython_reads_it(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fasta_parser = pytest.importorskip("Bio.SeqIO.FastaIO").SimpleFastaParser
    count = 0
    for path in sorted(path for place in PLACES for path in (data_dir / "science" / place).rglob("*") if path.is_file()):
        chosen = config(paths=(str(path),))
        things = read_paths(chosen, path.parent)
        for unit_bytes in (200_000,):
            assert read_paths(chosen, path.parent, unit_bytes) == things or path.suffix == ".zip"
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                members = [name for name in archive.namelist() if name.endswith(".fasta")]
                expected = [seq for name in members for _, seq in fasta_parser(io.StringIO(archive.read(name).decode()))]
                csv = [name for name in archive.namelist() if name.endswith(".csv")]
            assert texts(things) == expected
            assert {thing.member for thing in things if isinstance(thing, Drop)} >= set(csv)
            count += len(expected)
            continue
        if any(isinstance(thing, Drop) and thing.reason == "not_fasta" for thing in things):
            assert len(things) == 1
            assert path.suffix not in (".fasta", ".faa", ".fa", ".pro", ".nu")
            continue
        raw = path.read_bytes()
        lines = [line for line in raw.decode().splitlines(keepends=True) if not line.startswith(("#", "!", ";"))]
        pairs = list(fasta_parser(io.StringIO("".join(lines))))
        documents = [thing for thing in things if isinstance(thing, Document)]
        assert things == _one_by_one(chosen, path.parent, monkeypatch)
        assert [document.text for document in documents] == [sequence.upper() for _, sequence in pairs]
        for document, (title, _) in zip(documents, pairs, strict=True):
            assert document.offset is not None
            assert document.length is not None
            record = raw[document.offset : document.offset + document.length]
            assert record.startswith(b">" + title.encode())
            words = meta(document)
            assert words.get("accession", words.get("name", ""))[:4] in title
        count += len(documents)
    assert count > 50_000


def test_the_samples() -> None:
    folder = ROOT / "samples" / "protein"
    things = read_paths(config(paths=("*",), min_length=10, max_existence_level=3), folder)
    ids = [thing.id for thing in things if isinstance(thing, Document)]
    assert [found for found in ids if ":" in found] == ["uniprot:P00001", "ncbi:NP_900001.1", "uniref:UniRef50_P00001"]
    assert sorted(getattr(thing, "reason", getattr(thing, "kind", None)) for thing in things if not isinstance(thing, Document)) == [
        "bad_residue", "empty", "existence", "preamble", "too_short",
    ]  # fmt: skip
    assert {meta(thing)["molecule"] for thing in things if isinstance(thing, Document)} == {"protein", "dna", "rna"}
