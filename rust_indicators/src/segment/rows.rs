//! Where a reader puts the records of a block: a vector, or memory of the caller's. Reads nothing itself.
use crate::record::Record;

/// Where the records of a block are put.
pub trait Rows {
    /// Room for more, behind what is there.
    fn more(&mut self, count: usize) -> &mut [Record];
    /// What `more` gave last, whole or not at all.
    fn last(&self, count: usize) -> &[Record];
    fn drop_last(&mut self, count: usize);
}

impl Rows for Vec<Record> {
    fn more(&mut self, count: usize) -> &mut [Record] {
        let start = self.len();
        self.resize(start + count, Record::ZERO);
        &mut self[start..]
    }
    fn last(&self, count: usize) -> &[Record] {
        &self[self.len() - count..]
    }
    fn drop_last(&mut self, count: usize) {
        self.truncate(self.len() - count);
    }
}

/// Memory of the caller's, and what comes when a block does not fit any more.
pub struct Chunk<'a> {
    pub rows: &'a mut [Record],
    pub filled: usize,
    pub over: &'a mut Vec<Record>,
}

impl Rows for Chunk<'_> {
    fn more(&mut self, count: usize) -> &mut [Record] {
        if !self.over.is_empty() || count > self.rows.len() - self.filled {
            return self.over.more(count);
        }
        self.filled += count;
        &mut self.rows[self.filled - count..self.filled]
    }
    fn last(&self, count: usize) -> &[Record] {
        if self.over.is_empty() { &self.rows[self.filled - count..self.filled] } else { self.over.last(count) }
    }
    fn drop_last(&mut self, count: usize) {
        if self.over.is_empty() { self.filled -= count } else { self.over.drop_last(count) }
    }
}
