//! What stagedrop promises, shown on the embedded AWS with the real SDK and the real processes.

#![allow(missing_docs)]

mod deploying;
mod layering;
mod queueing;
mod recording;
mod support;
mod template;
mod trouble;
