//! What stagedrop promises, shown on the embedded AWS with the real SDK and the real processes.

#![allow(missing_docs)]

#[cfg(test)]
mod codes;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod deploying;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod foreign_s3;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod large;
#[cfg(test)]
mod layering;
#[cfg(test)]
mod load;
#[cfg(test)]
mod model;
#[cfg(test)]
mod observing;
#[cfg(test)]
mod privileges;
#[cfg(test)]
mod queueing;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod recording;
#[cfg(test)]
mod regions;
#[cfg(test)]
mod several_applications;
#[cfg(test)]
mod starting;
#[cfg(test)]
mod support;
#[cfg(test)]
mod template;
#[cfg(test)]
mod transcoding;
#[cfg(test)]
mod trouble;
