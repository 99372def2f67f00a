// SPDX-License-Identifier: Apache-2.0
// Small dense matrices as {rows, columns, cells}, stored row by row.

export function matrix(rows, columns, cells) {
  if (cells.length !== rows * columns) {
    throw new RangeError(`${cells.length} cells do not fill ${rows} x ${columns}`);
  }
  return { rows, columns, cells };
}

export function identity(size) {
  const cells = Array.from({ length: size * size }, (_, cell) => Number(Math.floor(cell / size) === cell % size));
  return matrix(size, size, cells);
}

export function at(m, row, column) {
  return m.cells[row * m.columns + column];
}

export function transposed(m) {
  const cells = [];
  for (let column = 0; column < m.columns; column++) {
    for (let row = 0; row < m.rows; row++) cells.push(at(m, row, column));
  }
  return matrix(m.columns, m.rows, cells);
}

export function times(a, b) {
  if (a.columns !== b.rows) {
    throw new RangeError(`${a.rows} x ${a.columns} does not go with ${b.rows} x ${b.columns}`);
  }
  const cells = new Array(a.rows * b.columns).fill(0);
  for (let row = 0; row < a.rows; row++) {
    for (let middle = 0; middle < a.columns; middle++) {
      const factor = at(a, row, middle);
      for (let column = 0; column < b.columns; column++) {
        cells[row * b.columns + column] += factor * at(b, middle, column);
      }
    }
  }
  return matrix(a.rows, b.columns, cells);
}

// By the first row. Good for the small sizes of this library; the cost grows with the factorial of the size.
export function determinant(m) {
  if (m.rows !== m.columns) throw new RangeError("only square matrices have a determinant");
  if (m.rows === 0) return 1;
  let sum = 0;
  for (let column = 0; column < m.columns; column++) {
    const cells = m.cells.filter((_, cell) => cell >= m.columns && cell % m.columns !== column);
    const minor = matrix(m.rows - 1, m.columns - 1, cells);
    sum += (column % 2 ? -1 : 1) * at(m, 0, column) * determinant(minor);
  }
  return sum;
}
