//! Records ↔ columns: fields of fixed width at fixed places of the record. Knows neither tables nor Arrow.
use crate::record::{MultisetHash, RECORD_BYTES, Record};

/// Rows that stay in the first-level cache while they are met column by column.
const TILE_ROWS: usize = 64;
const CACHE_LINE_BYTES: usize = 64;

/// One field of every row, one after the other.
pub struct Column<T> {
    /// Of the field in its record.
    pub offset: usize,
    pub width: usize,
    pub values: T,
}

/// Fills the columns with the fields of `order`'s records, in that order.
///
/// Panics where a row or field does not exist, or a column is shorter than `order`.
pub fn gather(records: &[u8], order: &[i64], columns: &mut [Column<&mut [u8]>]) {
    let (records, _) = records.as_chunks::<RECORD_BYTES>();
    let mut tile = [&[0; RECORD_BYTES]; TILE_ROWS];
    let mut tiles = order.chunks(TILE_ROWS).enumerate().peekable();
    while let Some((number, rows)) = tiles.next() {
        let ahead = tiles.peek().map_or(&[][..], |(_, rows)| rows);
        ahead.iter().for_each(|row| fetch(&records[*row as usize]));
        tile.iter_mut().zip(rows).for_each(|(record, row)| *record = &records[*row as usize]);
        let tile = &tile[..rows.len()];
        for column in columns.iter_mut() {
            let (offset, width) = (column.offset, column.width);
            let cells = &mut column.values[number * TILE_ROWS * width..][..rows.len() * width];
            match width {
                1 => gather_cells::<1>(tile, offset, cells),
                2 => gather_cells::<2>(tile, offset, cells),
                4 => gather_cells::<4>(tile, offset, cells),
                8 => gather_cells::<8>(tile, offset, cells),
                16 => gather_cells::<16>(tile, offset, cells),
                _ => {
                    for (record, cell) in tile.iter().zip(cells.chunks_exact_mut(width)) {
                        cell.copy_from_slice(&record[offset..offset + width]);
                    }
                }
            }
        }
    }
}

/// Rows of one code lie as far apart as there are codes: asked for a tile before they are needed.
#[inline(always)]
fn fetch(record: &[u8; RECORD_BYTES]) {
    #[cfg(target_arch = "x86_64")]
    for line in record.chunks_exact(CACHE_LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE, which every x86-64 has; only a hint, at an address that exists.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = record;
}

/// A width known to the compiler is one load and one store.
fn gather_cells<const WIDTH: usize>(tile: &[&[u8; RECORD_BYTES]], offset: usize, cells: &mut [u8]) {
    let (cells, _) = cells.as_chunks_mut::<WIDTH>();
    assert!(offset + WIDTH <= RECORD_BYTES, "a field of {WIDTH} bytes at {offset}");
    for (record, cell) in tile.iter().zip(cells) {
        cell.copy_from_slice(&record[offset..offset + WIDTH]);
    }
}

/// The inverse of `gather`: calls `visit` with the records of up to `TILE_ROWS` rows at a time, in order. Bytes that
/// no column covers are those of `template`.
pub fn scatter(template: &Record, rows: usize, columns: &[Column<&[u8]>], mut visit: impl FnMut(&[Record])) {
    let mut tile = [*template; TILE_ROWS];
    for first in (0..rows).step_by(TILE_ROWS) {
        let count = TILE_ROWS.min(rows - first);
        for column in columns {
            let (offset, width) = (column.offset, column.width);
            let cells = &column.values[first * width..][..count * width];
            match width {
                1 => scatter_cells::<1>(&mut tile, offset, cells),
                2 => scatter_cells::<2>(&mut tile, offset, cells),
                4 => scatter_cells::<4>(&mut tile, offset, cells),
                8 => scatter_cells::<8>(&mut tile, offset, cells),
                16 => scatter_cells::<16>(&mut tile, offset, cells),
                _ => {
                    for (record, cell) in tile.iter_mut().zip(cells.chunks_exact(width)) {
                        record.0[offset..offset + width].copy_from_slice(cell);
                    }
                }
            }
        }
        visit(&tile[..count]);
    }
}

fn scatter_cells<const WIDTH: usize>(tile: &mut [Record; TILE_ROWS], offset: usize, cells: &[u8]) {
    for (record, cell) in tile.iter_mut().zip(cells.chunks_exact(WIDTH)) {
        record.0[offset..offset + WIDTH].copy_from_slice(cell);
    }
}

/// Fingerprint of the records that `scatter` makes, without ever having them all.
pub fn multiset(template: &Record, rows: usize, columns: &[Column<&[u8]>]) -> MultisetHash {
    let mut hash = MultisetHash::default();
    scatter(template, rows, columns, |records| records.iter().for_each(|record| hash.add(record)));
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [(usize, usize); 7] = [(0, 1), (1, 3), (4, 4), (8, 8), (16, 16), (32, 2), (34, 222)];

    fn made(rows: usize) -> Vec<u8> {
        (0..rows * RECORD_BYTES).map(|at| (at * 31 + at / RECORD_BYTES * 7) as u8).collect()
    }

    fn gathered(bytes: &[u8], order: &[i64]) -> Vec<Vec<u8>> {
        let mut values: Vec<Vec<u8>> = FIELDS.iter().map(|(_, width)| vec![0; order.len() * width]).collect();
        let mut columns: Vec<_> = FIELDS
            .iter()
            .zip(&mut values)
            .map(|(&(offset, width), values)| Column { offset, width, values: values.as_mut_slice() })
            .collect();
        gather(bytes, order, &mut columns);
        values
    }

    #[test]
    fn columns_give_the_records_back_in_the_order_they_were_taken() {
        for rows in [1, 63, 64, 65, 200] {
            let bytes = made(rows);
            let order: Vec<i64> = (0..rows as i64).rev().collect();
            let values = gathered(&bytes, &order);
            let columns: Vec<_> = FIELDS
                .iter()
                .zip(&values)
                .map(|(&(offset, width), values)| Column { offset, width, values: values.as_slice() })
                .collect();
            let mut back = Vec::new();
            scatter(&Record::ZERO, rows, &columns, |records| back.extend_from_slice(records));
            let wanted: Vec<[u8; RECORD_BYTES]> =
                bytes.chunks_exact(RECORD_BYTES).rev().map(|record| record.try_into().unwrap()).collect();
            assert!(back.iter().map(|record| record.0).eq(wanted));
            let mut hash = MultisetHash::default();
            back.iter().for_each(|record| hash.add(record));
            assert_eq!(multiset(&Record::ZERO, rows, &columns), hash);
        }
    }

    #[test]
    fn what_no_column_covers_is_the_templates() {
        let values = [1, 2, 3];
        let columns = [Column { offset: 5, width: 1, values: &values[..] }];
        let mut seen = Vec::new();
        scatter(&Record([9; RECORD_BYTES]), 3, &columns, |records| {
            seen.extend(records.iter().map(|record| (record.0[4], record.0[5])));
        });
        assert_eq!(seen, [(9, 1), (9, 2), (9, 3)]);
    }
}
