//! The invocation that does the work: its name, which no other has, its deadline, and what it tells.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::journal::Journal;

/// Time kept back before the function's own deadline.
const DEADLINE_MARGIN: Duration = Duration::from_secs(2);

/// The invocation that does the work.
#[derive(Debug)]
pub struct Invocation {
    /// Unlike any other invocation's, also of the same event: Lambda repeats request ids.
    pub id: String,
    /// When Lambda ends it.
    pub deadline: Timestamp,
    /// What is told of its decisions.
    pub journal: Journal,
}

impl Invocation {
    /// The invocation of this request, begun now.
    pub fn begun(request_id: &str, deadline: Timestamp, journal: Journal) -> Self {
        let now = Timestamp::now();
        Self {
            id: format!(
                "{request_id}/{}/{}",
                std::process::id(),
                now.as_nanosecond()
            ),
            deadline,
            journal,
        }
    }

    /// Whether `pause` ends well before the deadline.
    pub fn has_time_for(&self, pause: Duration) -> bool {
        let end = SignedDuration::try_from(pause.saturating_add(DEADLINE_MARGIN))
            .unwrap_or(SignedDuration::MAX);
        Timestamp::now()
            .checked_add(end)
            .is_ok_and(|end| end <= self.deadline)
    }
}
