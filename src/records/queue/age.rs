//! Which of two builds is the newer one.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::key_pattern::Build;
use crate::records::group::{Live, Ticket};
use crate::settings::Order;

/// What decides which of two builds is the newer one.
#[derive(Clone, Copy)]
pub(super) struct Age<'a> {
    build: Option<&'a Build>,
    uploaded_at: Option<Timestamp>,
}

impl<'a> Age<'a> {
    pub(super) fn of(ticket: &'a Ticket) -> Self {
        Self {
            build: Some(&ticket.build),
            uploaded_at: Some(ticket.uploaded_at),
        }
    }

    pub(super) fn of_live(live: &'a Live) -> Self {
        Self {
            build: live.build.as_ref(),
            uploaded_at: live.uploaded_at,
        }
    }

    fn number(self) -> Option<u128> {
        self.build?.build_num.as_deref()?.parse().ok()
    }

    /// Older, newer or neither; by number only where `order` asks for it and both have one. Equal numbers
    /// are attempts of one build, of which the one uploaded later is the newer.
    pub(super) fn compare(self, other: Self, order: Order) -> Ordering {
        let by_number = match (order, self.number(), other.number()) {
            (Order::BuildNum, Some(mine), Some(theirs)) => mine.cmp(&theirs),
            _ => Ordering::Equal,
        };
        by_number.then(match (self.uploaded_at, other.uploaded_at) {
            (Some(mine), Some(theirs)) => mine.cmp(&theirs),
            _ => Ordering::Equal,
        })
    }
}

/// Two tickets: numbers count only where both ask for them, and a redeployment is newer than all that came before it.
pub(super) fn compare_tickets(a: &Ticket, b: &Ticket) -> Ordering {
    if a.redeploy && a.arrival > b.arrival {
        return Ordering::Greater;
    }
    if b.redeploy && b.arrival > a.arrival {
        return Ordering::Less;
    }
    let order = if a.order == b.order {
        a.order
    } else {
        Order::Arrival
    };
    Age::of(a)
        .compare(Age::of(b), order)
        .then(a.arrival.cmp(&b.arrival))
}
