// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { determinant, identity, matrix, times, transposed } from "./matrix.js";

const file = (name) => new URL(`../${name}`, import.meta.url);
const config = JSON.parse(readFileSync(file("config.json"), "utf8"));

for (const size of config.sizes) {
  assert.equal(determinant(identity(size)), 1);
}

const sample = matrix(2, 3, [1, 2, 3, 4, 5, 6]);
assert.deepEqual(times(sample, identity(3)), sample);
assert.deepEqual(transposed(transposed(sample)), sample);
assert.throws(() => times(sample, sample), RangeError);
assert.equal(determinant(matrix(2, 2, [0, 2, 3, 4])), -6);

const stored = readFileSync(file(config.fixtures.identity));
const cells = Array.from({ length: 16 }, (_, cell) => stored.readFloatLE(4 * cell));
assert.deepEqual(matrix(4, 4, cells), identity(4));
console.log("matrix: ok");
