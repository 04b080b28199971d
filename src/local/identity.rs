//! Names that AWS makes up: account, ARNs, request ids, deployment ids, instance ids.
//!
//! Owns their spelling and their uniqueness inside one process. Nothing here is secret or
//! unguessable; two runs differ, because each starts at another number.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The account that owns everything in the embedded AWS.
pub const ACCOUNT: &str = "123456789012";

/// Deployment ids are nine of these.
const ID_ALPHABET: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const ID_DIGITS: u32 = 9;
const ID_COUNT: u64 = 36_u64.pow(ID_DIGITS);
/// Shares no factor with 36, so that stepping by it visits every id before any comes again.
const ID_STEP: u64 = 61_803_398_874_989;

fn seed() -> &'static RandomState {
    static SEED: OnceLock<RandomState> = OnceLock::new();
    SEED.get_or_init(RandomState::new)
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A request id in UUID form: `8af2c8d0-…`.
pub fn request_id() -> String {
    let number = next_number();
    let (high, low) = (
        seed().hash_one((number, 'h')),
        seed().hash_one((number, 'l')),
    );
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

/// A deployment id: `d-` and nine upper-case letters and digits, never the same twice.
pub fn deployment_id() -> String {
    let start = seed().hash_one('d') % ID_COUNT;
    let step = u128::from(next_number()) * u128::from(ID_STEP);
    // The remainder is below 36^9, which fits.
    let offset = u64::try_from(step % u128::from(ID_COUNT)).unwrap_or_default();
    let mut rest = (start + offset) % ID_COUNT;
    let mut text = String::from("d-");
    for _ in 0..ID_DIGITS {
        let digit = usize::try_from(rest % 36).unwrap_or_default();
        text.push(char::from(ID_ALPHABET.get(digit).copied().unwrap_or(b'0')));
        rest /= 36;
    }
    text
}

/// The id of a group's `number`-th instance, the same whenever it is asked for: `i-0f3…`.
pub fn instance_id(application: &str, deployment_group: &str, number: usize) -> String {
    format!(
        "i-0{:016x}",
        seed().hash_one((application, deployment_group, number))
    )
}

/// An X-Ray trace header as Lambda hands it to a function.
pub fn trace_id(epoch_seconds: u64) -> String {
    let number = next_number();
    let (root, parent) = (
        seed().hash_one((number, 'r')),
        seed().hash_one((number, 'p')),
    );
    format!(
        "Root=1-{epoch_seconds:08x}-{root:016x}{:08x};Parent={parent:016x};Sampled=0",
        parent >> 32
    )
}

/// The ARN of a Lambda function.
pub fn function_arn(region: &str, name: &str) -> String {
    format!("arn:aws:lambda:{region}:{ACCOUNT}:function:{name}")
}

/// The ARN of a CodeDeploy application.
pub fn application_arn(region: &str, application: &str) -> String {
    format!("arn:aws:codedeploy:{region}:{ACCOUNT}:application:{application}")
}

/// The ARN of a deployment group.
pub fn deployment_group_arn(region: &str, application: &str, deployment_group: &str) -> String {
    format!(
        "arn:aws:codedeploy:{region}:{ACCOUNT}:deploymentgroup:{application}/{deployment_group}"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ok_deployment_ids_have_the_form_of_codedeploys_and_never_repeat() {
        let ids: HashSet<String> = (0..10_000).map(|_| deployment_id()).collect();
        assert_eq!(ids.len(), 10_000);
        for id in ids {
            assert!(
                id.parse::<crate::deployment::DeploymentId>().is_ok(),
                "{id}"
            );
            assert_eq!(id.len(), 11);
        }
    }

    #[test]
    fn ok_the_step_through_the_ids_has_a_full_period() {
        assert!(!ID_STEP.is_multiple_of(2) && !ID_STEP.is_multiple_of(3));
    }

    #[test]
    fn ok_request_ids_are_version_4_uuids() {
        let id = request_id();
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(id.as_bytes()[14], b'4');
        assert_ne!(id, request_id());
    }

    #[test]
    fn ok_instances_keep_their_ids() {
        assert_eq!(instance_id("a", "g", 0), instance_id("a", "g", 0));
        assert_ne!(instance_id("a", "g", 0), instance_id("a", "g", 1));
        assert_eq!(instance_id("a", "g", 0).len(), 19);
    }
}
