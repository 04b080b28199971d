//! What stands at folders of the bundle, for one way through its rows.
//!
//! Owns the order alone: whoever goes through the rows meets a folder before what lies in it, so what is
//! known of a folder is kept by its row, and handed down.

use super::bundle::Bundle;

/// Marks at folders of the bundle, to be taken up in the order of its rows.
#[derive(Debug)]
pub(super) struct Marks<T> {
    top: Vec<T>,
    /// By row.
    below: Vec<(u32, T)>,
    next: usize,
}

impl<T: Copy> Marks<T> {
    /// Each mark with the path of its folder, empty for the top; folders that are not there have none.
    pub fn new<'p>(bundle: &Bundle<'_>, marks: impl Iterator<Item = (&'p [u8], T)>) -> Self {
        let mut top = Vec::new();
        let mut below = Vec::new();
        for (path, mark) in marks {
            if path.is_empty() {
                top.push(mark);
            } else if let Some(row) = bundle.row_of(path) {
                below.push((row, mark));
            }
        }
        below.sort_by_key(|(row, _)| *row);
        Self {
            top,
            below,
            next: 0,
        }
    }

    /// Those at the top.
    pub fn at_top(&self) -> impl Iterator<Item = T> {
        self.top.iter().copied()
    }

    /// Those at a row; rows are to be asked for in their order.
    pub fn at(&mut self, row: u32) -> impl Iterator<Item = T> {
        let rest = self.below.get(self.next..).unwrap_or_default();
        let count = rest.iter().take_while(|(at, _)| *at <= row).count();
        self.next = self.next.saturating_add(count);
        let here = rest.iter().take(count);
        here.filter(move |(at, _)| *at == row)
            .map(|(_, mark)| *mark)
    }
}
