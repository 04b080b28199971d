//! The folders above a path, remembered from one path to the next.
//!
//! Owns the walk along paths: archives list a folder's files one after another, so what a user finds out
//! about a folder is asked for once while paths stay in it. Knows nothing of what that is.

/// What is known about the folders above the last path.
#[derive(Debug)]
pub(crate) struct Trail<T> {
    /// The last path's folder, closed by `/`; empty at the top.
    folder: Vec<u8>,
    /// Where each folder on the way ends (before its `/`), the topmost first.
    known: Vec<(usize, T)>,
}

impl<T> Trail<T> {
    /// At the top.
    pub fn new() -> Self {
        Self {
            folder: Vec::new(),
            known: Vec::new(),
        }
    }

    /// Goes to the folder of a tidy path, and answers what is known about it; `None` at the top.
    ///
    /// `enter` is asked about each folder that the last path was not in, the topmost first: it gets what is
    /// known about the one above, the folder's path, and where in that its own name begins.
    pub fn follow<'p>(
        &mut self,
        path: &'p [u8],
        mut enter: impl FnMut(Option<&T>, &'p [u8], usize) -> T,
    ) -> Option<&T> {
        if !path.starts_with(&self.folder) {
            self.leave(path);
        }
        let open = self.folder.len();
        let mut from = open;
        while let Some(end) = slash_after(path, from) {
            let above = self.known.last().map(|(_, known)| known);
            let known = enter(above, path.get(..end).unwrap_or_default(), from);
            self.known.push((end, known));
            from = end.saturating_add(1);
        }
        if from > open {
            self.folder
                .extend_from_slice(path.get(open..from).unwrap_or_default());
        }
        self.known.last().map(|(_, known)| known)
    }

    /// Where in the last path its own name begins, after its folder.
    pub fn name_at(&self) -> usize {
        self.folder.len()
    }

    /// Back to the deepest folder that is above `path` too.
    fn leave(&mut self, path: &[u8]) {
        let shared = shared_length(&self.folder, path);
        while self.known.pop_if(|(end, _)| *end >= shared).is_some() {}
        let open = self.known.last();
        self.folder
            .truncate(open.map_or(0, |(end, _)| end.saturating_add(1)));
    }
}

/// How many bytes two paths have in common at their beginning, counted in words while they last.
fn shared_length(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let mut shared = 0_usize;
    for (one, other) in words {
        let differing = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if differing != 0 {
            return shared.saturating_add(differing.trailing_zeros() as usize / 8);
        }
        shared = shared.saturating_add(8);
    }
    let rest = |path: &'_ [u8]| path.get(shared..).unwrap_or_default().len();
    let left = rest(one).min(rest(other));
    let is_same = |at: &usize| one.get(*at) == other.get(*at);
    let end = shared.saturating_add(left);
    shared.saturating_add((shared..end).take_while(is_same).count())
}

fn slash_after(path: &[u8], from: usize) -> Option<usize> {
    let at = path.get(from..)?.iter().position(|&byte| byte == b'/')?;
    from.checked_add(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The folders that were entered on the way along `paths`.
    fn entered(paths: &[&str]) -> Vec<String> {
        let mut trail: Trail<()> = Trail::new();
        let mut entered = Vec::new();
        for path in paths {
            trail.follow(path.as_bytes(), |_, folder, _| {
                entered.push(String::from_utf8_lossy(folder).into_owned());
            });
        }
        entered
    }

    #[test]
    fn ok_neighbours_share_their_folders() {
        assert_eq!(entered(&["a/b/x", "a/b/y", "a/z"]), ["a", "a/b"]);
        assert_eq!(entered(&["a/x", "ab/x", "a/x"]), ["a", "ab", "a"]);
        // A name without its folder's slash is not in that folder.
        assert_eq!(entered(&["a/x", "a", "a/x"]), ["a", "a"]);
        assert_eq!(entered(&["x", "", "y"]), [""; 0]);
    }

    proptest! {
        #[test]
        fn ok_shared_bytes_are_those_before_the_first_that_differs(
            same in "[ab]{0,20}", one in "[ab]{0,20}", other in "[ab]{0,20}",
        ) {
            let (one, other) = (format!("{same}{one}"), format!("{same}{other}"));
            let pairs = one.bytes().zip(other.bytes());
            let expected = pairs.take_while(|(one, other)| one == other).count();
            prop_assert_eq!(shared_length(one.as_bytes(), other.as_bytes()), expected);
        }

        #[test]
        fn ok_a_folder_is_known_as_if_walked_to_from_the_top(
            paths in proptest::collection::vec("[ab]{1,2}(/[ab]{1,2}){0,4}", 1..12),
        ) {
            let mut trail: Trail<Vec<u8>> = Trail::new();
            for path in &paths {
                let found = trail.follow(path.as_bytes(), |above, folder, from| {
                    assert_eq!(from, above.map_or(0, |above| above.len() + 1));
                    let name = &folder[from..];
                    assert!(!name.is_empty() && !name.contains(&b'/'));
                    folder.to_vec()
                });
                let parent = path.rsplit_once('/').map(|(parent, _)| parent.as_bytes());
                prop_assert_eq!(found.map(Vec::as_slice), parent);
                prop_assert_eq!(trail.name_at(), parent.map_or(0, |parent| parent.len() + 1));
            }
        }
    }
}
