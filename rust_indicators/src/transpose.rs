//! Tiles of rows ↔ columns of bytes, as the log stores them. Knows neither fields nor compression (`block.rs`).
use crate::record::RECORD_BYTES;

/// Rows turned into columns together. Row by row, the 256 columns of a block of 2ⁿ rows would all be written through
/// the same few cache sets (8192 rows cost five times what 8000 did); 64 rows fill a cache line of each column.
pub const TILE_ROWS: usize = 64;
/// Side of the square of bytes that is turned in registers.
const SQUARE: usize = 16;

pub type Tile = [[u8; RECORD_BYTES]; TILE_ROWS];
pub const EMPTY_TILE: Tile = [[0; RECORD_BYTES]; TILE_ROWS];

/// Rows of a tile into columns that are `stride` apart; the columns start at the tile's first row.
pub fn rows_to_columns(tile: &Tile, rows: usize, columns: &mut [u8], stride: usize) {
    if rows < TILE_ROWS {
        for (place, row) in tile[..rows].iter().enumerate() {
            for (column, byte) in row.iter().enumerate() {
                columns[column * stride + place] = *byte;
            }
        }
        return;
    }
    let mut lines = [[0; TILE_ROWS]; SQUARE];
    for left in (0..RECORD_BYTES).step_by(SQUARE) {
        for top in (0..TILE_ROWS).step_by(SQUARE) {
            let from = std::array::from_fn(|row| sixteen(&tile[top + row][left..]));
            transpose(&from, |column, bytes| lines[column][top..top + SQUARE].copy_from_slice(bytes));
        }
        for (column, line) in lines.iter().enumerate() {
            columns[(left + column) * stride..][..TILE_ROWS].copy_from_slice(line);
        }
    }
}

/// The reverse of `rows_to_columns`.
pub fn columns_to_rows(columns: &[u8], stride: usize, tile: &mut Tile, rows: usize) {
    if rows < TILE_ROWS {
        for (place, row) in tile[..rows].iter_mut().enumerate() {
            for (column, byte) in row.iter_mut().enumerate() {
                *byte = columns[column * stride + place];
            }
        }
        return;
    }
    for left in (0..RECORD_BYTES).step_by(SQUARE) {
        for top in (0..TILE_ROWS).step_by(SQUARE) {
            let from = std::array::from_fn(|column| sixteen(&columns[(left + column) * stride + top..]));
            transpose(&from, |row, bytes| tile[top + row][left..left + SQUARE].copy_from_slice(bytes));
        }
    }
}

fn sixteen(bytes: &[u8]) -> &[u8; SQUARE] {
    bytes[..SQUARE].try_into().expect("sixteen bytes")
}

/// Gives `put` each column of the square with its number. Four perfect shuffles of the rows transpose it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose(rows: &[&[u8; SQUARE]; SQUARE], mut put: impl FnMut(usize, &[u8; SQUARE])) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_setzero_si128, _mm_unpackhi_epi8, _mm_unpacklo_epi8};
    const HALF: usize = SQUARE / 2;
    // SAFETY: SSE2, which every x86-64 has; loads of 16 bytes that are there, at any alignment; a vector is its bytes.
    unsafe {
        let mut square: [__m128i; SQUARE] = std::array::from_fn(|row| _mm_loadu_si128(rows[row].as_ptr().cast()));
        for _ in 0..4 {
            let mut next = [_mm_setzero_si128(); SQUARE];
            for pair in 0..HALF {
                next[2 * pair] = _mm_unpacklo_epi8(square[pair], square[pair + HALF]);
                next[2 * pair + 1] = _mm_unpackhi_epi8(square[pair], square[pair + HALF]);
            }
            square = next;
        }
        for (column, bytes) in square.iter().enumerate() {
            put(column, &*std::ptr::from_ref(bytes).cast());
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn transpose(rows: &[&[u8; SQUARE]; SQUARE], mut put: impl FnMut(usize, &[u8; SQUARE])) {
    let columns: [[u8; SQUARE]; SQUARE] = std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]));
    columns.iter().enumerate().for_each(|(column, bytes)| put(column, bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_its_column_and_comes_back_to_its_row() {
        for rows in [1, 15, 63, TILE_ROWS] {
            let mut tile = EMPTY_TILE;
            for (row, bytes) in tile[..rows].iter_mut().enumerate() {
                bytes.iter_mut().enumerate().for_each(|(column, byte)| *byte = (row * 37 + column * 101) as u8);
            }
            let stride = rows + 3;
            let mut columns = vec![0xEE; RECORD_BYTES * stride];
            rows_to_columns(&tile, rows, &mut columns, stride);
            for (column, line) in columns.chunks_exact(stride).enumerate() {
                assert!(line[..rows].iter().enumerate().all(|(row, byte)| *byte == tile[row][column]), "{column}");
                assert_eq!(line[rows..], [0xEE; 3], "bytes of the next tile's rows, column {column}");
            }
            let mut back = EMPTY_TILE;
            columns_to_rows(&columns, stride, &mut back, rows);
            assert!(back == tile);
        }
    }
}
