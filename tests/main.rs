//! What stagedrop promises, shown on the embedded AWS with the real SDK and the real processes.

#![allow(missing_docs)]

mod corpus;
mod deploying;
mod layering;
mod queueing;
mod recording;
mod support;
#[cfg(test)]
mod template;
mod trouble;
