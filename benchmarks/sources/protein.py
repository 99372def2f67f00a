"""FASTA: records with their headers in parts and their letters checked. The peers are Biopython's two readers: the plain one (title and
sequence, nothing checked) and SeqIO."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

from _bench import Case, SkipError

from codedev._files import open_decompressed
from codedev.corpus.records import Reader
from codedev.corpus.sources.protein import source as protein

AMOUNT = 20_000_000  # bytes of each input


def cases(data: Path, work: Path) -> dict[str, Case]:
    real = [
        data / "science" / "tseemann__prokka" / "db" / "kingdom" / "Viruses" / "sprot",
        *data.glob("science/soedinglab__MMseqs2/examples/*.fasta"),
    ]
    present = [path.read_bytes() for path in real if path.is_file()]
    if not present:
        raise SkipError(f"no FASTA files under {data / 'science'}")
    once = b"".join(content.rstrip(b"\n") + b"\n" for content in present)
    plain, swissprot, genome = work / "real.fasta", work / "swissprot.fasta", work / "genome.fa"
    packed = work / "real.fasta.gz"
    plain.write_bytes(once * (AMOUNT // len(once)))
    packed.write_bytes(gzip.compress(plain.read_bytes(), 6))
    swissprot.write_bytes(_swissprot(AMOUNT))
    genome.write_bytes(_genome(AMOUNT))
    return {
        "protein: short records": _case(plain),
        "protein: gzip": _case(packed),
        "protein: UniProt headers": _case(swissprot),
        "protein: chromosomes": _case(genome),
    }


def _case(path: Path) -> Case:
    config = protein.Config(type="protein", name="bench", paths=(str(path),))

    def ours() -> None:
        reader = Reader(config, path.parent)
        for _ in reader.batches(extent._replace(hash="0" * 32) for extent in protein.plan(config, path.parent, 1 << 40)):
            pass
        if reader.counts["rows_out"] != reader.counts["rows_in"]:
            raise ValueError(f"records were lost: {reader.counts}")

    with open_decompressed(str(path)) as stream:
        size = sum(len(block) for block in iter(lambda: stream.read(1 << 20), b""))
    return Case(ours, size / 1e6, "MB raw", peers={"SimpleFastaParser": _peer(path, "simple"), "SeqIO": _peer(path, "seqio")})


def _peer(path: Path, way: str) -> Callable[[], None]:
    def run() -> None:
        from Bio import SeqIO
        from Bio.SeqIO.FastaIO import SimpleFastaParser

        with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
            for _ in SimpleFastaParser(file) if way == "simple" else SeqIO.parse(file, "fasta"):
                pass

    return run


def _swissprot(amount: int) -> bytes:
    """Records of 360 residues on average, as Swiss-Prot's are."""
    chance, parts, size = random.Random(0), [], 0
    while size < amount:
        residues = "".join(chance.choices("ARNDCQEGHILKMFPSTWYV", k=max(20, int(chance.gauss(360, 150)))))
        lines = "\n".join(residues[at : at + 60] for at in range(0, len(residues), 60))
        number = f"{len(parts):05d}"
        parts.append(f">sp|P{number}|ABC{number}_HUMAN Protein of {number} OS=Homo sapiens OX=9606 GN=ABC{number} PE=1 SV=2\n{lines}\n")
        size += len(parts[-1])
    return "".join(parts).encode()


def _genome(amount: int) -> bytes:
    """Chromosomes of 5 MB, on lines of 60."""
    chance = random.Random(0)
    lines = ["".join(chance.choices("ACGT", k=60)) for _ in range(1000)]
    body = "\n".join(chance.choices(lines, k=5_000_000 // 61))
    return "".join(f">chr{number}\n{body}\n" for number in range(amount // 5_000_000)).encode()
