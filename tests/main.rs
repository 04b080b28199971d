//! What stagedrop promises, shown on the embedded AWS with the real SDK and the real processes.

#![allow(missing_docs)]

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod deploying;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod layering;
#[cfg(test)]
mod load;
#[cfg(test)]
mod model;
#[cfg(test)]
mod queueing;
#[cfg(test)]
mod recording;
#[cfg(test)]
mod support;
#[cfg(test)]
mod template;
#[cfg(test)]
mod trouble;
