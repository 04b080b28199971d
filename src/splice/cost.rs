//! What a revision's way into S3 costs in time: the one place where the planner's numbers stand.
//!
//! The model: a request takes [`REQUEST_SECONDS`] before its first byte; what passes through the function
//! does so at [`THROUGH_BYTES_PER_SECOND`], reading and writing at once; S3 copies each range at
//! [`COPY_BYTES_PER_SECOND`], [`COPIES_IN_FLIGHT`] of them at a time, which costs the function nothing.
//! An upload in parts is begun and completed by requests of their own, which is why small objects are better
//! written or copied whole; a large one that does not change is copied faster in parts, as many at once as there
//! are, than by one `CopyObject`, whose rate is that of one copy.
//! The numbers are what a function of one virtual CPU gets from S3 in its own Region ("Performance guidelines
//! for Amazon S3", S3 user guide: 85-90 MB/s a connection). They decide between plans that give the same bytes,
//! so that being wrong costs time alone.

/// Seconds from a request to the first byte of its answer.
pub const REQUEST_SECONDS: f64 = 0.03;
/// Bytes in a second through the function, each way.
pub const THROUGH_BYTES_PER_SECOND: f64 = 75e6;
/// Bytes in a second of one server-side copy.
pub const COPY_BYTES_PER_SECOND: f64 = 100e6;
/// Server-side copies, and joins of parts, in flight at once.
pub const COPIES_IN_FLIGHT: usize = 32;
/// Reads in flight at once on their way into the function, with those that wait to be worked on.
pub const READS_IN_FLIGHT: usize = 5;
/// Parts in flight at once on their way out of the function.
pub const SENDS_IN_FLIGHT: usize = 3;
/// Requests of a join one after the other: create, copy beside upload, complete, copy, delete.
const JOIN_CHAIN: f64 = 5.0;

/// What there is to do for one revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Whether it is an upload in parts, and not one request.
    pub in_parts: bool,
    /// Bodies that the function sends one after the other.
    pub bodies: u64,
    /// Their bytes.
    pub through_bytes: u64,
    /// Server-side copies of ranges of the source.
    pub copies: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Bytes of the largest of them.
    pub copy_bytes_max: u64,
    /// Parts that are joined in a temporary object first.
    pub joins: u64,
    /// Their bytes, which S3 copies twice.
    pub joined_bytes: u64,
    /// Bytes of the largest of them.
    pub join_bytes_max: u64,
}

impl Work {
    /// Estimated seconds from the first request of the transfer to the last.
    pub fn seconds(&self) -> f64 {
        let copying =
            |count: f64, bytes: u64| count * REQUEST_SECONDS + bytes as f64 / COPY_BYTES_PER_SECOND;
        let joining = |count: f64, bytes: u64| {
            count * JOIN_CHAIN * REQUEST_SECONDS + 2.0 * bytes as f64 / COPY_BYTES_PER_SECOND
        };
        let all = copying(self.copies as f64, self.copied_bytes)
            + joining(self.joins as f64, self.joined_bytes);
        let longest_copy = copying(self.copies.min(1) as f64, self.copy_bytes_max);
        let longest_join = joining(self.joins.min(1) as f64, self.join_bytes_max);
        let beside = (all / COPIES_IN_FLIGHT as f64)
            .max(longest_copy)
            .max(longest_join);
        let through = if self.bodies == 0 {
            0.0
        } else {
            // Filling and emptying the pipe once, and what each body's request adds.
            2.0 * REQUEST_SECONDS
                + self.bodies as f64 * REQUEST_SECONDS / SENDS_IN_FLIGHT as f64
                + self.through_bytes as f64 / THROUGH_BYTES_PER_SECOND
        };
        let begun_and_completed = if self.in_parts {
            2.0 * REQUEST_SECONDS
        } else {
            0.0
        };
        begun_and_completed + beside.max(through)
    }
}

/// Whether a join pays where `filler_bytes` would pass through the function otherwise, in a plan that has
/// many of both.
pub fn join_pays(filler_bytes: u64, joined_bytes: u64) -> bool {
    let filler =
        filler_bytes as f64 / THROUGH_BYTES_PER_SECOND + REQUEST_SECONDS / SENDS_IN_FLIGHT as f64;
    let join = JOIN_CHAIN * REQUEST_SECONDS + 2.0 * joined_bytes as f64 / COPY_BYTES_PER_SECOND;
    join / (COPIES_IN_FLIGHT as f64) < filler
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn ok_what_passes_and_what_is_copied_go_at_once() {
        let through = Work {
            in_parts: true,
            bodies: 10,
            through_bytes: 75_000_000,
            ..Work::default()
        };
        let copied = Work {
            in_parts: true,
            copies: 32,
            copied_bytes: 32 * 50_000_000,
            copy_bytes_max: 50_000_000,
            ..Work::default()
        };
        let both = Work {
            bodies: through.bodies,
            through_bytes: through.through_bytes,
            ..copied
        };
        assert!(
            (through.seconds() - 1.22).abs() < 0.001,
            "{}",
            through.seconds()
        );
        assert!(
            (copied.seconds() - 0.59).abs() < 0.001,
            "{}",
            copied.seconds()
        );
        assert_eq!(both.seconds(), through.seconds());
    }

    #[test]
    fn ok_a_large_copy_is_faster_in_parts_and_a_small_one_whole() {
        let copied = |copies: u64, bytes: u64| Work {
            in_parts: copies > 1,
            copies,
            copied_bytes: bytes,
            copy_bytes_max: bytes.div_ceil(copies),
            ..Work::default()
        };
        assert!(copied(12, 729_000_000).seconds() < 0.8);
        assert!(copied(1, 729_000_000).seconds() > 7.0);
        assert!(copied(1, 10 * MIB).seconds() < copied(2, 10 * MIB).seconds());
    }

    #[test]
    fn ok_a_join_pays_for_five_mebibytes_and_not_for_few_bytes() {
        assert!(join_pays(5 * MIB, 5 * MIB));
        assert!(!join_pays(1, 40 * MIB));
    }
}
