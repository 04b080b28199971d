//! The rooms that take hostile bytes, on their own: built in a minute, without the AWS SDK.
//!
//! They are the crate's own files, under their own names.

#![allow(dead_code, unused_imports)]

pub mod archive;
pub mod contents;
pub mod finding;
pub mod object;
pub mod transcode;
pub mod yaml;
