// SPDX-License-Identifier: Apache-2.0
//! Small dense matrices of `f64`, stored row by row.

use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    cells: Vec<f64>,
}

/// The shapes of two operands do not fit together.
#[derive(Debug, PartialEq, Eq)]
pub struct ShapeError {
    pub left: (usize, usize),
    pub right: (usize, usize),
}

impl fmt::Display for ShapeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} does not go with {:?}", self.left, self.right)
    }
}

impl std::error::Error for ShapeError {}

impl Matrix {
    /// Panics unless `cells` holds `rows * columns` numbers.
    pub fn new(rows: usize, columns: usize, cells: Vec<f64>) -> Self {
        assert_eq!(cells.len(), rows * columns, "the cells do not fill the matrix");
        Matrix { rows, columns, cells }
    }

    pub fn identity(size: usize) -> Self {
        let cells = (0..size * size).map(|cell| if cell / size == cell % size { 1.0 } else { 0.0 });
        Matrix::new(size, size, cells.collect())
    }

    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.cells[row * self.columns + column]
    }

    pub fn transposed(&self) -> Self {
        let cells = (0..self.columns).flat_map(|column| (0..self.rows).map(move |row| self.at(row, column)));
        Matrix::new(self.columns, self.rows, cells.collect())
    }

    pub fn times(&self, other: &Matrix) -> Result<Matrix, ShapeError> {
        if self.columns != other.rows {
            return Err(ShapeError { left: self.shape(), right: other.shape() });
        }
        let mut cells = vec![0.0; self.rows * other.columns];
        // The middle index runs outside, so that the inner loop walks both rows in order.
        for row in 0..self.rows {
            for middle in 0..self.columns {
                let factor = self.at(row, middle);
                for column in 0..other.columns {
                    cells[row * other.columns + column] += factor * other.at(middle, column);
                }
            }
        }
        Ok(Matrix::new(self.rows, other.columns, cells))
    }

    /// By elimination with the largest pivot of each column. None unless the matrix is square.
    pub fn determinant(&self) -> Option<f64> {
        if self.rows != self.columns {
            return None;
        }
        let (size, mut work, mut result) = (self.rows, self.cells.clone(), 1.0);
        for step in 0..size {
            let pivot = (step..size).max_by(|&a, &b| {
                work[a * size + step].abs().total_cmp(&work[b * size + step].abs())
            })?;
            if work[pivot * size + step] == 0.0 {
                return Some(0.0);
            }
            if pivot != step {
                (0..size).for_each(|column| work.swap(pivot * size + column, step * size + column));
                result = -result;
            }
            result *= work[step * size + step];
            for row in step + 1..size {
                let factor = work[row * size + step] / work[step * size + step];
                for column in step..size {
                    work[row * size + column] -= factor * work[step * size + column];
                }
            }
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Matrix {
        Matrix::new(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    }

    #[test]
    fn identity_changes_nothing() {
        assert_eq!(sample().times(&Matrix::identity(3)), Ok(sample()));
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        assert_eq!(sample().transposed().transposed(), sample());
    }

    #[test]
    fn shapes_are_checked() {
        assert_eq!(sample().times(&sample()), Err(ShapeError { left: (2, 3), right: (2, 3) }));
    }

    #[test]
    fn determinants() {
        assert_eq!(Matrix::identity(4).determinant(), Some(1.0));
        assert_eq!(Matrix::new(2, 2, vec![0.0, 2.0, 3.0, 4.0]).determinant(), Some(-6.0));
        assert_eq!(Matrix::new(2, 2, vec![1.0, 2.0, 2.0, 4.0]).determinant(), Some(0.0));
        assert_eq!(sample().determinant(), None);
    }
}
