"""Licences: against texts that the system and installed packages carry, real headers, and a brute-force reading of expressions."""

from __future__ import annotations

import itertools
import re
import time
from importlib import metadata
from pathlib import Path

import pytest

from codedev.corpus import licence

COMMON = Path("/usr/share/common-licenses")  # Debian's own copies
COMMON_IDS = {
    "Apache-2.0": "Apache-2.0",
    "Artistic": "Artistic-1.0-Perl",
    "BSD": "BSD-3-Clause",
    "CC0-1.0": "CC0-1.0",
    "GFDL-1.3": None,
    "GPL-1": "GPL-1.0-only",
    "GPL-2": "GPL-2.0-only",
    "GPL-3": "GPL-3.0-only",
    "LGPL-2": "LGPL-2.0-only",
    "LGPL-2.1": "LGPL-2.1-only",
    "LGPL-3": "LGPL-3.0-only",
    "MPL-1.1": "MPL-1.1",
    "MPL-2.0": "MPL-2.0",
}

GNU = "you can redistribute it and/or modify it under the terms of the GNU "
HEADERS = [
    ('# Licensed under the Apache License, Version 2.0 (the "License");\n# you may not use this file except', "Apache-2.0"),
    (
        f"/* {GNU}General Public License as published by\n * the FSF; either version 2, or\n * (at your option) any later version.",
        "GPL-2.0-or-later",
    ),
    (" * under the terms of version 2 of the GNU General Public License as published by the FSF.\n", "GPL-2.0-only"),
    (
        f"// {GNU}Lesser General\n// Public License; either\n// version 2.1 of the License, or (at your option) any later version.",
        "LGPL-2.1-or-later",
    ),
    ("/* under the terms of the GNU Affero General Public License version 3 */", "AGPL-3.0-only"),
    (f"# {GNU}General Public License.", "GPL-1.0-or-later"),
    ("; Licensed under GPLv3+", "GPL-3.0-or-later"),
    ("/* This Source Code Form is subject to the terms of the Mozilla Public\n * License, v. 2.0. If a copy", "MPL-2.0"),
    ("// Distributed under the Boost Software License, Version 1.0.", "BSL-1.0"),
    ("/*! x.js v1 | Released under the MIT license */", "MIT"),
    (
        "// Licensed under the Apache License, Version 2.0 <APACHE or\n// http://x> or the MIT license\n// <MIT>, at your\n// option.",
        "Apache-2.0 OR MIT",
    ),
    ("# free software; you can use it under the same terms as Perl itself.", "Artistic-1.0-Perl OR GPL-1.0-or-later"),
    ("// Use of this source code is governed by a BSD-style license that can be found in the LICENSE file.", None),
    ("// GPL-compatible code is welcome; the Apache server is not.", None),
    ("print('General Public transport')", None),
]

TAGS = [
    (b"// SPDX-License-Identifier: MIT\n", "MIT"),
    (b"/* SPDX-License-Identifier: GPL-2.0+ */\n", "GPL-2.0-or-later"),
    (b"# SPDX-License-Identifier: (mit or apache-2.0)\n", "MIT OR Apache-2.0"),
    (b"<!-- SPDX-License-Identifier: CC-BY-4.0 -->", "CC-BY-4.0"),
    (b"; SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note", "GPL-2.0-only WITH Linux-syscall-note"),
    (b"(* SPDX-License-Identifier: LicenseRef-Mine *)", "LicenseRef-Mine"),
    (b'TAG = "SPDX-License-Identifier: MIT"', None),
    (b"// SPDX-License-Identifier: NONE", None),
    (b"// SPDX-License-Identifier: MIT OR", None),
    (b"x" * 5000 + b"\n// SPDX-License-Identifier: MIT", None),
]

DECLARED = [
    row.split(" -> ")
    for row in """
MIT -> MIT
mit -> MIT
The MIT License -> MIT
MIT + file LICENSE -> MIT
Apache License, Version 2.0 -> Apache-2.0
BSD3 -> BSD-3-Clause
New BSD License -> BSD-3-Clause
BSD -> unknown
GPL (>= 2) -> GPL-2.0-or-later
GPL-3 -> GPL-3.0-only
GPL-2 | GPL-3 -> GPL-2.0-only OR GPL-3.0-only
GPLv3+ -> GPL-3.0-or-later
LGPL-2.1+ -> LGPL-2.1-or-later
GNU General Public License v3 or later (GPLv3+) -> GPL-3.0-or-later
License :: OSI Approved :: MIT License -> MIT
License :: OSI Approved :: BSD License -> unknown
MIT/Apache-2.0 -> Apache-2.0 OR MIT
Apache-2.0 WITH LLVM-exception -> Apache-2.0 WITH LLVM-exception
perl_5 -> Artistic-1.0-Perl OR GPL-1.0-or-later
artistic_2 -> Artistic-2.0
SEE LICENSE IN LICENSE.md -> unknown
UNLICENSED -> LicenseRef-Proprietary
Public Domain -> unknown
mit OR gpl-2.0+ -> MIT OR GPL-2.0-or-later
""".strip().splitlines()
]


@pytest.mark.parametrize("name", COMMON_IDS)
def test_common_licences(name: str) -> None:
    path = COMMON / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    text = path.read_text(errors="replace")
    assert licence.of_text(text) == COMMON_IDS[name]
    # Comment signs, another width and capitals change nothing.
    wrapped = "\n".join(f" *  {line}" for line in re.findall(r"(?:\S+\s*){1,7}", text))
    assert licence.of_text(wrapped.upper()) == COMMON_IDS[name]


def test_agrees_with_what_installed_packages_declare() -> None:
    """Every installed distribution with one licence id and one licence file: the text is read as that id."""
    compared = 0
    for distribution in metadata.distributions():
        declared = distribution.metadata.get("License-Expression") or ""
        files = [file for file in distribution.files or () if re.fullmatch(r"(?:LICENSE|LICENCE|COPYING)(?:\.txt|\.md|\.rst)?", file.name)]
        texts = {path.read_text(errors="replace") for file in files if (path := Path(str(file.locate()))).is_file()} - {""}
        if " " in declared or not declared or declared.startswith("LicenseRef-") or len(texts) != 1:
            continue
        found = licence.of_text(texts.pop())
        if found == "Python-2.0" and declared == "PSF-2.0":
            continue  # the whole agreement, of which the package names a part
        compared += 1
        said = licence.expression(declared) or ""
        assert found in (said, said.replace("-or-later", "-only"), None), distribution.metadata["Name"]
    assert compared >= 5


def test_every_family_of_the_table_can_be_found() -> None:
    """A text made of a member's own phrases is that member: none is hidden by one before it."""
    for begins, members in licence._table().families:
        for member in members:
            text = " . ".join([begins, *member.must])
            found = licence.of_text(text)
            assert member.licence in (found or ""), (begins, member)
            assert member.licence.lower() in licence._table().canonical


@pytest.mark.parametrize(("header", "expected"), HEADERS)
def test_headers(header: str, expected: str | None) -> None:
    assert licence.of_header(header.encode()) == expected


@pytest.mark.parametrize(("head", "expected"), TAGS)
def test_tags(head: bytes, expected: str | None) -> None:
    assert licence.of_tag(head) == expected


@pytest.mark.parametrize(("text", "expected"), DECLARED)
def test_declarations(text: str, expected: str) -> None:
    assert licence.of_declaration(text) == (None if expected == "unknown" else expected)


MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy of this software ... subject to these conditions: "
    "The above copyright notice and this permission notice shall be included in all copies or substantial portions."
)
GPL = "GNU GENERAL PUBLIC LICENSE Version 2, June 1991. Everyone is permitted to copy. You may choose any later version."


def test_several_texts_in_one_file() -> None:
    assert licence.of_text(MIT + GPL) == "MIT AND GPL-2.0-only"
    assert licence.of_text("You may use either of these licences.\n" + MIT + GPL) == "GPL-2.0-only OR MIT"
    assert licence.of_text(MIT + "\nThis software includes parts by others:\n" + GPL) == "MIT"
    assert licence.of_text("... either version 2 or (at your option) any later version.\n" + GPL) == "GPL-2.0-or-later"
    assert licence.of_text(GPL + "GNU LESSER GENERAL PUBLIC LICENSE Version 2.1, February 1999") == "LGPL-2.1-only"
    assert licence.of_text("All rights reserved. Do not copy.") is None


def test_bsd_clauses() -> None:
    two = (
        "Redistribution and use in source and binary forms: source code must retain the notice; in binary form must reproduce the notice. "
    )
    three = two + "Neither the name may be used to endorse or promote products. "
    assert licence.of_text(two) == "BSD-2-Clause"
    assert licence.of_text(three) == "BSD-3-Clause"
    assert licence.of_text(three + "All advertising materials mentioning features must say so.") == "BSD-4-Clause"
    assert licence.of_text(two + "solely for research") is None


def test_permissive_is_what_the_operators_mean() -> None:
    """Against Python's own `and` and `or` on every expression of up to four licences, with brackets."""
    names = {"MIT": True, "GPL-3.0-only": False, "Apache-2.0": True, "Unknown-1.0": False}
    shapes = ["{} {} {} {} {}", "({} {} {}) {} {}", "{} {} ({} {} {})", "({} {} ({} {} {}))"]
    for shape in shapes:
        for a, b, c in itertools.product(names, repeat=3):
            for one, two in itertools.product(("AND", "OR"), repeat=2):
                text = shape.format(a, one, b, two, c)
                python = (
                    re.sub(r"[\w.-]+(?<!AND)(?<!OR)", lambda found: str(names.get(found[0], found[0])), text)
                    .replace("AND", "and")
                    .replace("OR", "or")
                )
                assert licence.is_permissive(text) == eval(python), text
                assert licence.expression(text) is not None
    assert licence.is_permissive("Apache-2.0 WITH LLVM-exception")
    assert not licence.is_permissive("GPL-2.0-only WITH Classpath-exception-2.0")
    assert not licence.is_permissive("((MIT")
    assert not licence.is_permissive("")


def test_expressions() -> None:
    assert licence.expression("apache-2.0 or  mit") == "Apache-2.0 OR MIT"
    assert licence.expression("GPL-2.0") == "GPL-2.0-only"
    assert licence.expression("(MIT OR CC0-1.0)") == "MIT OR CC0-1.0"
    assert licence.expression("(MIT OR CC0-1.0) AND ISC") == "(MIT OR CC0-1.0) AND ISC"
    for wrong in ("", "MIT MIT", "AND MIT", "(MIT", "MIT)", "NOASSERTION", "see file", "MIT OR " * 100 + "MIT"):
        assert licence.expression(wrong) is None, wrong


def test_hostile_text_is_quick() -> None:
    start = time.process_time()
    for text in (
        "under the " * 100_000,
        "either the " * 90_000,
        "gpl " * 250_000,
        "permission is hereby granted free of charge to any person obtaining " * 15_000,
        "(" * 1_000_000,
    ):
        licence.of_text(text)
        licence.of_header(text.encode())
        licence.of_declaration(text)
        licence.of_tag(b"SPDX-License-Identifier: " + text.encode())
    assert time.process_time() - start < 20
