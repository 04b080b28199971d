//! A wish to deploy the bytes of an earlier deployment once more, staged as a small object.
//!
//! ```text
//! staging/my-app/master/47-3f2c1a9….zip                              the artifact
//! staging/my-app/master/47-3f2c1a9….redeploy/my-app/production.json  the wish
//! ```
//!
//! Owns the wish's key and body. The key carries the build and the target, so that a bucket policy can pin
//! both: who may write under a branch's prefix may ask for builds of that branch alone, and a policy may
//! deny `*.redeploy/*`. Values to values; who grants the wish is `deploy`'s business.

use serde::{Deserialize, Serialize};

use crate::deployment::{ApplicationName, DeploymentGroupName, DeploymentId};
use crate::key_pattern::EXTENSIONS;
use crate::object::{InvalidName, ObjectKey};

/// What parts the build's own key from the target.
const MARK: &str = ".redeploy/";
/// What the key ends with.
const EXTENSION: &str = ".json";
/// Bytes of a wish at most.
pub const WISH_BYTES_MAX: u64 = 4 << 10;

/// The key of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WishKey {
    /// The artifact's staged key without its extension: it says which build.
    pub stem: String,
    /// The application.
    pub application: ApplicationName,
    /// The group that it is to be deployed to.
    pub deployment_group: DeploymentGroupName,
}

/// What a wish holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The deployment whose revision is meant.
    pub deployment_id: DeploymentId,
    /// When it was wished, so that two wishes for the same thing are two objects.
    pub wished_at: String,
}

impl WishKey {
    /// Reads a key; `None` where it is none of a wish.
    pub fn read(key: &str) -> Option<Self> {
        let (stem, target) = key.strip_suffix(EXTENSION)?.rsplit_once(MARK)?;
        let (application, deployment_group) = target.split_once('/')?;
        Some(Self {
            stem: stem.to_owned(),
            application: application.parse().ok()?,
            deployment_group: deployment_group.parse().ok()?,
        })
    }

    /// The key itself.
    ///
    /// # Errors
    /// Where it would be longer than S3 allows.
    pub fn key(&self) -> Result<ObjectKey, InvalidName> {
        format!(
            "{}{MARK}{}/{}{EXTENSION}",
            self.stem, self.application, self.deployment_group
        )
        .parse()
    }
}

/// What of a staged key says which build it is: an artifact's key without its extension, of a wish the same of
/// the artifact that it is about.
pub fn stem(staged_key: &str) -> String {
    if let Some(wish) = WishKey::read(staged_key) {
        return wish.stem;
    }
    let lower = staged_key.to_ascii_lowercase();
    let extension = EXTENSIONS
        .iter()
        .find(|extension| lower.ends_with(*extension));
    let bytes = extension.map_or(0, |extension| extension.len());
    let end = staged_key.len().saturating_sub(bytes);
    staged_key.get(..end).unwrap_or(staged_key).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_a_wish_names_build_and_target_in_its_key() {
        let wish = WishKey {
            stem: stem("staging/shop/feature/x/47-3f2c1a9.tar.gz"),
            application: "shop".parse().unwrap(),
            deployment_group: "production".parse().unwrap(),
        };
        let key = wish.key().unwrap();
        assert_eq!(
            key.as_str(),
            "staging/shop/feature/x/47-3f2c1a9.redeploy/shop/production.json"
        );
        assert_eq!(WishKey::read(key.as_str()), Some(wish));
        // A wish for what a wish deployed is about the same artifact.
        assert_eq!(stem(key.as_str()), "staging/shop/feature/x/47-3f2c1a9");
    }

    #[test]
    fn err_other_keys_are_no_wishes() {
        for key in [
            "staging/shop/master/47-3f2c1a9.zip",
            "staging/shop/master/47-3f2c1a9.redeploy/shop/production.zip",
            "staging/shop/master/47-3f2c1a9.redeploy/shop.json",
            "staging/shop/master/47-3f2c1a9.redeploy/shop/a/b.json",
            "staging/shop/master/47-3f2c1a9.redeploy/sh op/production.json",
        ] {
            assert_eq!(WishKey::read(key), None, "{key}");
        }
    }

    #[test]
    fn ok_a_stem_loses_one_extension_in_any_case() {
        assert_eq!(stem("a/b.ZIP"), "a/b");
        assert_eq!(stem("a/b"), "a/b");
        assert_eq!(stem("a/ß.zip.zip"), "a/ß.zip");
    }
}
