//! stagedrop: staged build artifacts become recorded CodeDeploy deployments.
//!
//! # The way of a drop
//!
//! ```text
//! event ──intake──▶ staged object ──key_pattern──▶ build
//!                        │                           │
//!                     artifact                    settings ──▶ targets
//!                        │                           │
//!                  archive ──▶ contents ──▶ appspec, bundle_check ──▶ findings
//!                                 │
//!                     splice or transcode ──▶ revision ──▶ deployment (registered)
//!                                                             │
//!                               records (drops, groups) ◀── advance ──▶ CodeDeploy
//!                                                             ▲
//! state change, schedule ──intake──▶ record ──────────────────┘
//! ```
//!
//! [`deploy`] and [`record`] are the two use cases; everything above them in the picture turns values into
//! values. [`records`] is the only state, [`advance`] the only room that creates deployments. What either decides
//! is a [`decision`], which [`journal`] logs and [`metrics`] counts.
//!
//! # Who may use whom
//!
//! `bin` and `main` see everything. `aws` implements the traits of `revision`, `deployment` and `records`,
//! and nothing else names the SDK. `deploy` and `record` use the concept rooms. `settings` uses
//! `key_pattern`; `splice`, `transcode`, `verify` and `contents` use `archive`; `bundle_check` uses `archive`,
//! `contents` and `appspec`. The rooms of values know no clock, no environment, no tokio and no SDK. Only `main`
//! and the tests use `local`, the embedded AWS.
//!
//! # Words
//!
//! AWS's own, spelled as in its APIs (revision, deployment group, bundle type, version id), and a few more: a
//! *drop* is one upload under the staging prefix; a *build* is what it was built from; a *target* is an
//! application and group that the settings name for it; a *finding* is one thing that is wrong, with its
//! cure; a *ticket* is a drop's place in a group's queue; an *intent* is the note, written before CodeDeploy
//! is asked, that it is going to be.

pub mod advance;
pub mod appspec;
pub mod archive;
pub mod artifact;
pub mod aws;
pub mod bundle_check;
#[cfg(feature = "cli")]
pub mod ci_environment;
pub mod configuration;
pub mod contents;
pub mod decision;
pub mod deploy;
pub mod deployment;
#[cfg(feature = "cli")]
pub mod destination;
pub mod entry;
#[cfg(feature = "cli")]
pub mod excerpt;
#[cfg(feature = "cli")]
pub mod explain;
pub mod fault;
pub mod finding;
#[cfg(feature = "cli")]
pub mod following;
pub mod intake;
pub mod journal;
pub mod key_pattern;
#[cfg(feature = "local")]
pub mod local;
pub mod metrics;
pub mod object;
#[cfg(feature = "cli")]
pub mod overview;
#[cfg(feature = "cli")]
pub mod packing;
pub mod policy;
pub mod record;
pub mod records;
pub mod redeployment;
pub mod revision;
pub mod service_error;
pub mod settings;
pub mod splice;
pub mod transcode;
pub mod verify;
pub mod yaml;
