"""Protein: FASTA files of proteins, DNA and RNA, plain, compressed or in a zip or tar; one document for each record.

The text is the sequence on one line, without the line ends that a file happens to have: they mean nothing, and a tokenizer with one id for
each residue is to see nothing else. What the header says goes to `meta` (sources/protein_header.py), with the molecule and the length.
Letters are those of IUPAC, with the codes for uncertain residues; anything else is a failure `bad_residue` that names the first one.
Where `alphabet` is `auto`, the header decides between protein and nucleotide, else the first letters: where nine in ten are A C G T U N and
all are a nucleotide's, it is DNA, or RNA where there is U and no T. A short peptide of such letters is taken for DNA: name the alphabet.

Lines that begin with `;`, `#` or `!` are comments. The header of a record of several (NCBI's nr joins them with Ctrl-A) is the first; the
others are kept in `meta`. Plain files split by byte ranges, archives by members; a compressed file is read in one piece.

Records of the usual kind (UniProt's headers, or a word and a description; capital letters of the alphabet alone) are read by a kernel, all
of a block at once: 0.5 µs a record and 3 ns a residue. Any other takes 15 µs. Memory: a record, five times, or a block of 1 MiB.

What it does not do: FASTQ, GenBank, EMBL, alignments (Clustal, Stockholm, PIR) are dropped as `not_fasta`, with what they look like.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
from pydantic import Field

from codedev._archive import ArchiveError, Member, cuts, members
from codedev._archive import form as archive_form
from codedev._files import compression, damage_kind, decompressed, expand, is_damage, open_raw
from codedev.corpus.document import DOCUMENT, ORIGIN, meta_json, position_id
from codedev.corpus.source import Document, Drop, Extent, Failure, SourceConfig
from codedev.corpus.sources import DEFAULT_KIND
from codedev.corpus.sources.protein.header import OTHERS, Header, parse
from codedev.kernels import fasta

VERSION = 1
_BLOCK = 1 << 20
_HEAD = 1 << 16  # bytes in which the first record must begin
_SAMPLE = 10_000  # residues that tell a protein from a nucleotide
_FREE_SIZE = 1 << 62  # members are streamed

_BLANK = b" \t\r\n\v\f"
_LETTERS = {
    "protein": b"ACDEFGHIKLMNPQRSTVWYBJOUXZ",
    "dna": b"ACGTRYSWKMBDHVN",
    "rna": b"ACGURYSWKMBDHVN",
}
_COMMON = b"ACGTUNacgtun"
_LOWER = bytes(range(ord("a"), ord("z") + 1))
_LINE_END = re.compile(rb"[\r\n]")
_COMMENT = re.compile(rb"(?<=[\r\n])[;#!][^\r\n]*")
_LICENCE = {"uniprot": "CC-BY-4.0", "uniref": "CC-BY-4.0", "uniparc": "CC-BY-4.0"}

# How files of other forms begin. Those of the second list may begin a FASTA file too, before its first record.
_OTHER_FORMS = [
    (rb">(?:P1|F1|D[LC]|R[LC]|N[13]|XX);", "PIR"),
    (rb"@[^\n]*\n[A-Za-z.*-]+\r?\n\+", "FASTQ"),
    (rb"LOCUS\s", "GenBank"),
    (rb"ID   \S", "EMBL or Swiss-Prot"),
    (rb"CLUSTAL|MUSCLE|PROBCONS", "Clustal"),
    (rb"# STOCKHOLM", "Stockholm"),
    (rb"(?i)#NEXUS", "Nexus"),
    (rb"##gff-version", "GFF"),
    (rb"BEGIN_SEQUENCE", "PHD"),
    (rb"AS \d+ \d+\s", "ACE"),
    (rb"HEADER    |ATOM  |data_\w", "PDB"),
    (rb"\s*<(?:\?xml|!|[A-Za-z])", "XML or HTML"),
    (rb"(?s)[^\0]{0,512}\0", "a binary file"),
]
_LIKELY_FORMS = [
    (rb"\s*[0-9]+\s+[0-9]+\s*\n", "PHYLIP"),
    (rb"\s*[\[{]\s*[\"\[{]", "JSON"),
    (rb"[^,\n]{0,99}(?:,[^,\n]{0,99}){1,99}\r?\n", "CSV"),
    (rb"[^\t\n]{0,99}(?:\t[^\t\n]{0,99}){1,99}\r?\n", "TSV"),
]
_OTHER, _LIKELY = ([(re.compile(pattern), name) for pattern, name in forms] for forms in (_OTHER_FORMS, _LIKELY_FORMS))


class Config(SourceConfig):
    type: Literal["protein"]
    alphabet: Literal["auto", "protein", "dna", "rna"] = "auto"
    case: Literal["upper", "keep"] = "upper"  # of lower-case letters, which mean masked ones; their number goes to meta
    stops: Literal["trim", "keep", "refuse"] = "trim"  # `*` of proteins; trim: one at the end is taken off, others are bad residues
    gaps: Literal["refuse", "remove", "keep"] = "refuse"  # `-`
    min_length: int = Field(default=1, ge=0)  # residues
    max_length: int | None = Field(default=None, ge=1)
    max_existence_level: int | None = Field(default=None, ge=1, le=5)  # UniProt's PE; a record that does not say stays


class _Place(NamedTuple):
    file: str  # as Extent.name
    hash: str  # what position ids are made of
    member: str | None = None


Thing: TypeAlias = Document | Drop | Failure | pa.RecordBatch


def plan(config: Config, base: Path, unit_bytes: int) -> Iterator[Extent]:
    for found in expand(config.paths, base):
        whole = Extent(found.path, found.name, 0, -1, found.size)
        try:
            with open_raw(found.path) as file:
                head = file.read(_HEAD)
                file.seek(0)
                archive = archive_form(head[:512])
                if found.size <= unit_bytes or compression(head):
                    yield whole
                elif archive:
                    for start, end, size in cuts(file, archive, unit_bytes):
                        yield whole._replace(start=start, end=end, size=size)
                elif _looks_like(head, _OTHER) is None and (head.startswith(b">") or _first_start(head, 0)):
                    for start in range(0, found.size, unit_bytes):
                        end = min(start + unit_bytes, found.size)
                        yield whole._replace(start=start, end=end, size=end - start)
                else:
                    yield whole
        except Exception as error:
            if not is_damage(error):
                raise
            yield whole  # its reader will say what is wrong


def read(extent: Extent, config: Config, base: Path) -> Iterator[Thing]:
    try:
        with open_raw(extent.file) as file:
            yield from _read_file(file, extent, config)
    except OSError as error:
        yield Failure("unreadable", error.strerror or str(error))


def _read_file(file: BinaryIO, extent: Extent, config: Config) -> Iterator[Thing]:
    codec = compression(file.read(8))
    file.seek(0)
    stream = decompressed(file, codec, config.max_ratio)
    try:
        head = _peek(stream, 512)
        archive = archive_form(head)
    except Exception as error:
        if not is_damage(error):
            raise
        yield Failure(damage_kind(error), f"the file is damaged: {error}", 0)
        return
    if archive is None or (codec and archive != "tar"):
        file.seek(0)
        yield from _sequences(decompressed(file, codec, config.max_ratio), extent, config, _Place(extent.name, extent.hash))
        return
    file.seek(0)
    stream = decompressed(file, codec, config.max_ratio)
    for member in members(stream, archive, start=extent.start, end=extent.end, limit=_FREE_SIZE, ratio=config.max_ratio):
        if isinstance(member, Member):
            yield from _read_member(member, extent, config)
        elif member.kind == "link":
            yield Drop(position_id(extent.hash, member.offset), "link", member=member.name, offset=member.offset)
        else:
            yield Failure(member.kind, member.message, member.offset, member.name)


def _peek(stream: BinaryIO, size: int) -> bytes:
    head = b""
    while len(head) < size and (block := stream.read(size - len(head))):
        head += block
    return head


def _read_member(member: Member, extent: Extent, config: Config) -> Iterator[Thing]:
    place = _Place(extent.name, f"{extent.hash}:{member.name}", member.name)
    whole = extent._replace(start=0, end=-1)
    try:
        codec = compression(_peek(member.stream(), 8))
        stream = decompressed(member.stream(), codec, config.max_ratio)
    except ArchiveError as error:
        yield Failure(error.kind, str(error), 0, member.name)
        return
    yield from _sequences(stream, whole, config, place)


# -- records ---------------------------------------------------------------------------------------------------------------------------


class _Chunk(NamedTuple):
    """Whole records, one after another."""

    offset: int
    raw: bytes  # of a single record that is too large, the beginning
    size: int  # bytes
    last: bool = False  # the file ends with it


def _sequences(stream: BinaryIO, extent: Extent, config: Config, place: _Place) -> Iterator[Thing]:
    first = extent.start == 0
    for chunk in _chunks(stream, extent, config.max_record_bytes):
        if isinstance(chunk, Failure):
            first = False
            yield chunk._replace(member=place.member)
            continue
        if first:
            first = False
            if form := _looks_like(chunk.raw, _OTHER):
                yield _beside("not_fasta", chunk, place, {"looks_like": form})
                return
            if not chunk.raw.startswith(b">"):
                found, chunk = _before_the_first(chunk, place)
                if found:
                    yield found
                if not chunk.raw:
                    continue
        if chunk.size != len(chunk.raw):
            yield _too_large(chunk.offset, chunk.size, chunk.raw, config, place)
        else:
            yield from _records(chunk, config, place)
    if first:
        yield Failure("empty", "the file holds no records", 0, place.member)


def _before_the_first(chunk: _Chunk, place: _Place) -> tuple[Drop | Failure | None, _Chunk]:
    """What to say of the text before the first record, and the records, which may be none."""
    start = _first_start(chunk.raw, 0) or len(chunk.raw)
    head = _Chunk(chunk.offset, chunk.raw[:start], chunk.size - len(chunk.raw) + start)
    rest = _Chunk(chunk.offset + start, chunk.raw[start:], len(chunk.raw) - start, chunk.last)
    alone = chunk.last and not rest.raw
    if not head.raw.strip(_BLANK):
        return Failure("empty", "the file holds no records", 0, place.member) if alone else None, rest
    if alone:
        return _beside("not_fasta", head, place, {"looks_like": _looks_like(head.raw, _LIKELY) or "text"}), rest
    return _beside("preamble", head, place, {"bytes": head.size}), rest


def _too_large(offset: int, size: int, raw: bytes, config: Config, place: _Place) -> Failure:
    message = f"a sequence of {size:,} bytes, above max_record_bytes = {config.max_record_bytes:,}"
    return Failure("too_large", message, offset, place.member, raw[:256])


def _looks_like(head: bytes, forms: list[tuple[re.Pattern[bytes], str]]) -> str | None:
    head = head[:_HEAD].removeprefix(b"\xef\xbb\xbf")
    return next((name for pattern, name in forms if pattern.match(head)), None)


def _beside(reason: str, record: _Chunk, place: _Place, evidence: dict[str, Any]) -> Drop:
    """What is no sequence."""
    told = orjson.dumps(evidence).decode()
    return Drop(position_id(place.hash, record.offset), reason, told, record.offset, record.size, place.member)


def _chunks(stream: BinaryIO, extent: Extent, limit: int) -> Iterator[_Chunk | Failure]:
    """The records whose `>` stands inside the extent, and at the file's start what comes before the first one."""
    at = max(0, extent.start - 1)  # offset of held[0]: a record is known by the line end before it
    end = extent.end if extent.end >= 0 else _FREE_SIZE
    begin = None if extent.start else 0  # offset of the record that held begins with; None: it is not ours
    prefix: bytes | None = None  # its beginning, where it is too large to be held
    held, searched = bytearray(), 0
    if at:
        stream.seek(at)
    while True:
        try:
            block = stream.read(_BLOCK if at or held else 3)  # a byte order mark comes alone
        except Exception as error:
            if not is_damage(error):
                raise
            yield Failure(damage_kind(error), f"the file is damaged: {error}", begin, raw=prefix or bytes(held[:256]))
            return
        held += block
        if at == 0 and held == b"\xef\xbb\xbf":
            del held[:3]
            at = begin = 3
        if start := _first_start(held, searched):
            if prefix is not None and begin is not None:
                yield _Chunk(begin, prefix, at + start - begin)
            if prefix is not None or begin is None:
                begin, prefix = at + start, None
                if begin >= end:
                    return
            over = _first_start(held, max(start - 1, end - 1 - at)) if at + len(held) >= end else 0
            upto = over or _last_start(held, start)
            if at + upto > begin:
                yield _Chunk(begin, bytes(held[begin - at : upto]), at + upto - begin)
                begin = at + upto
            if over:
                return
        if not block:
            if begin is not None and at + len(held) > begin:
                yield _Chunk(begin, bytes(held[begin - at :]) if prefix is None else prefix, at + len(held) - begin, True)
            return
        if begin is None and at + len(held) >= end:
            return
        if begin is not None and prefix is None and at + len(held) - begin > limit:
            prefix = bytes(held[begin - at : begin - at + 256])
        gone = begin - at if begin is not None and prefix is None else len(held) - 1
        del held[:gone]
        at += gone
        searched = max(0, len(held) - 1)


def _first_start(held: bytes | bytearray, at: int) -> int:
    """Where the first record begins whose line end is at `at` or after it; 0 for none. Three times as quick as a regular expression."""
    found = held.find(b"\n>", at)
    other = held.find(b"\r>", at, found if found >= 0 else len(held))
    return (other if other >= 0 else found) + 1


def _last_start(held: bytearray, start: int) -> int:
    """Where the last record begins; one begins at `start`."""
    last = held.rfind(b"\n>", start) + 1 or start
    return held.rfind(b"\r>", last) + 1 or last


class _Record(NamedTuple):
    offset: int
    raw: bytes
    size: int


def _records(chunk: _Chunk, config: Config, place: _Place) -> Iterator[Thing]:
    """The records of a chunk. Runs of usual ones come as record batches, the others one by one: 15 µs each."""
    most = chunk.raw.count(b">")
    if most == 1 and chunk.size > _BLOCK and chunk.size <= config.max_record_bytes:
        yield _document(_Record(chunk.offset, chunk.raw, chunk.size), config, place)
        return
    data = np.frombuffer(chunk.raw, np.uint8)
    spans = np.empty((most, 6), np.int64)
    residues = np.empty(len(data), np.uint8)
    count = fasta.scan(data, _table(config.alphabet), residues, spans)
    spans = spans[:count]
    kinds = np.zeros(count, np.uint8)
    id_ends, meta_ends = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    headers = int((spans[:, fasta.HEADER_END] - spans[:, fasta.START]).sum())
    ids, metas = np.empty(headers + 16 * count, np.uint8), np.empty(headers + fasta.ROOM * count, np.uint8)
    molecule = np.frombuffer(("protein" if config.alphabet == "auto" else config.alphabet).encode(), np.uint8)
    fasta.describe(data, spans, count, molecule, config.max_existence_level or 9, ids, id_ends, metas, meta_ends, kinds)
    kinds[~_usual(spans, kinds, config)] = fasta.OTHER

    # Runs of one kind; of the others each by itself.
    breaks = np.flatnonzero((kinds[1:] != kinds[:-1]) | (kinds[1:] == fasta.OTHER)) + 1
    for start, end in itertools.pairwise([0, *breaks.tolist(), count]):
        if kinds[start] == fasta.OTHER:
            low, high = int(spans[start, fasta.START]), int(spans[start, fasta.END])
            offset = chunk.offset + low
            if high - low > config.max_record_bytes:
                yield _too_large(offset, high - low, chunk.raw[low : low + 256], config, place)
            else:
                yield _document(_Record(offset, chunk.raw[low:high], high - low), config, place)
            continue
        run = spans[start:end]
        offsets = run[:, fasta.START] + chunk.offset
        if kinds[start] == fasta.UNIPROT:
            names = _strings(ids, id_ends[start : end + 1], pa.string())
            licence: str | None = _LICENCE["uniprot"]
        else:
            names = pa.array([position_id(place.hash, offset) for offset in offsets.tolist()], pa.string())
            licence = config.licence
        texts = _strings(residues, np.append(run[:, fasta.FIRST], run[-1:, fasta.LAST]), pa.large_string())
        place_of = (offsets, run[:, fasta.END] - run[:, fasta.START])
        yield _batch(names, texts, _strings(metas, meta_ends[start : end + 1], pa.string()), licence, place_of, config, place)


def _usual(spans: np.ndarray, kinds: np.ndarray, config: Config) -> np.ndarray:
    """Which records have capital letters of their alphabet alone, and a length that the recipe keeps."""
    classes, length = spans[:, fasta.CLASSES], spans[:, fasta.LAST] - spans[:, fasta.FIRST]
    usual = (classes & fasta.STRANGE == 0) & (length >= max(1, config.min_length)) & (length <= (config.max_length or _FREE_SIZE))
    usual &= spans[:, fasta.END] - spans[:, fasta.START] <= config.max_record_bytes
    if config.alphabet == "auto":  # a letter that no nucleotide has must be among the first
        usual &= (kinds == fasta.UNIPROT) | ((classes & fasta.TELLING != 0) & (length <= _SAMPLE))
    return np.asarray(usual)


@functools.cache
def _table(alphabet: str) -> np.ndarray:
    """The class of each byte, see kernels/fasta.py."""
    table = np.full(256, fasta.STRANGE, np.uint8)
    table[list(_BLANK)] = 0
    table[list(_LETTERS["protein" if alphabet == "auto" else alphabet])] = fasta.LETTER
    if alphabet == "auto":
        table[list(set(_LETTERS["protein"]) - set(_LETTERS["dna"] + _LETTERS["rna"]))] = fasta.TELLING
    return table


def _strings(data: np.ndarray, ends: np.ndarray, kind: pa.DataType) -> pa.Array:
    """The strings that lie one after another in `data`."""
    offsets = (ends - ends[0]).astype(np.int32 if kind == pa.string() else np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data[ends[0] : ends[-1]].tobytes())]
    return pa.Array.from_buffers(kind, len(ends) - 1, buffers)


def _batch(
    names: pa.Array,
    texts: pa.Array,
    metas: pa.Array,
    licence: str | None,
    place_of: tuple[np.ndarray, np.ndarray],
    config: Config,
    place: _Place,
) -> pa.RecordBatch:
    count = len(names)
    offset, length = (pa.array(values, pa.int64()) for values in place_of)
    origin = pa.StructArray.from_arrays([_same(place.file, count), offset, length, _same(place.member, count)], fields=list(ORIGIN))
    columns = {
        "id": names,
        "source": _same(config.name, count).dictionary_encode(),
        "kind": _same(config.kind or DEFAULT_KIND["protein"], count).dictionary_encode(),
        "text": texts,
        "licence": _same(licence, count).dictionary_encode(),
        "origin": origin,
        "meta": metas,
    }
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in DOCUMENT]
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT)


def _same(value: str | None, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)


def _document(record: _Record, config: Config, place: _Place) -> Document | Drop | Failure:
    raw = record.raw
    line_end = _LINE_END.search(raw)
    header_end = line_end.start() if line_end else len(raw)
    body, comments = raw[header_end:], 0
    if b";" in body or b"#" in body or b"!" in body:
        body, comments = _COMMENT.subn(b"", body)
    sequence = body.translate(None, _BLANK)
    first, *others = _decoded(raw[1:header_end]).split("\x01")
    header = parse(first.strip())
    own_id = header.id or position_id(place.hash, record.offset)
    molecule = _molecule(header, sequence) if config.alphabet == "auto" else config.alphabet

    allowed = _LETTERS[molecule] + _LETTERS[molecule].lower()
    gaps = sequence.count(b"-")
    if config.gaps == "remove" and gaps:
        sequence = sequence.replace(b"-", b"")
    elif config.gaps == "keep":
        allowed += b"-"
    stop = molecule == "protein" and config.stops == "trim" and sequence.endswith(b"*")
    if stop:
        sequence = sequence[:-1]
    elif molecule == "protein" and config.stops == "keep":
        allowed += b"*"
    if wrong := sequence.translate(None, allowed):
        position = sequence.index(wrong[:1]) + 1
        message = f"{own_id}: residue {position:,} of {len(sequence):,} is {wrong[:1].decode('latin-1')!r}, which {molecule} has not"
        return Failure("bad_residue", message, record.offset, place.member, raw[:256])

    length = len(sequence)
    masked, upper = 0, sequence.upper()
    if upper != sequence:
        masked = length - len(sequence.translate(None, _LOWER))
    text = (upper if config.case == "upper" else sequence).decode("ascii")
    meta = meta_json(
        {
            "accession": header.accession,
            "comments": comments or None,
            "database": header.database,
            "description": header.description,
            "existence": header.existence,
            "gaps": gaps or None,
            "gene": header.gene,
            "length": length,
            "masked": masked or None,
            "molecule": molecule,
            "name": header.name,
            "organism": header.organism,
            "others": others[:OTHERS] or None,
            "others_count": len(others) or None,
            "stop": stop or None,
            "taxon": header.taxon,
            "version": header.version,
        }
    )
    if reason := _unwanted(length, header, config):
        told = orjson.dumps({"length": length, "existence": header.existence}).decode()
        return Drop(own_id, reason, told, record.offset, record.size, place.member, meta=meta)
    licence = _LICENCE.get(header.database or "")
    return Document(own_id, text, record.offset, record.size, place.member, licence=licence, meta=meta)


def _decoded(header: bytes) -> str:
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")


def _molecule(header: Header, sequence: bytes) -> str:
    """By the header, else by the first letters."""
    sample = sequence[:_SAMPLE]
    if header.molecule is None:
        common = len(sample) - len(sample.translate(None, _COMMON))
        letters = _LETTERS["dna"] + _LETTERS["rna"]
        if common < 0.9 * len(sample.replace(b"-", b"")) or sample.translate(None, letters + letters.lower() + b"-*") or not sample:
            return "protein"
    elif header.molecule == "protein":
        return "protein"
    bases = sample.upper()
    return "rna" if b"U" in bases and b"T" not in bases else "dna"


def _unwanted(length: int, header: Header, config: Config) -> str | None:
    if length == 0:
        return "empty"
    if length < config.min_length:
        return "too_short"
    if config.max_length is not None and length > config.max_length:
        return "too_long"
    if config.max_existence_level is not None and (header.existence or 0) > config.max_existence_level:
        return "existence"
    return None
