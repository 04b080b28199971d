//! How far a push has come: a bar on a terminal, a plain line now and then in a log.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::pack::Packing;
use crate::cli::voice::megabytes;

/// How often the bar is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(100);
/// How often a log gets a line.
const LOGGED_EVERY: Duration = Duration::from_secs(10);

/// What is counted while a push goes on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Of the packing.
    pub packing: Packing,
    /// Bytes that S3 has.
    pub sent_bytes: AtomicU64,
}

/// Shows counters until it is ended.
pub struct Progress {
    task: JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins to show how far `total_bytes` of content have come. Nothing is shown where `is_quiet`.
    pub fn start(counters: Arc<Counters>, total_bytes: u64, is_quiet: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = (is_terminal && !is_quiet).then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = ProgressBar::with_draw_target(Some(total_bytes), target);
            let style = "{msg:10} [{bar:24}] {percent:>3} %  {bytes_per_sec}, {eta} left";
            bar.set_style(
                ProgressStyle::with_template(style)
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("=> "),
            );
            bar.set_message("uploading");
            bar
        });
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let every = if shown.is_some() {
                DRAWN_EVERY
            } else {
                LOGGED_EVERY
            };
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
            let started = Instant::now();
            loop {
                ticks.tick().await;
                let packed = counters.packing.raw_bytes.load(Ordering::Relaxed);
                let sent = counters.sent_bytes.load(Ordering::Relaxed);
                match &shown {
                    Some(bar) => bar.set_position(packed.min(total_bytes)),
                    None if is_quiet => {}
                    None => {
                        let percent = packed.min(total_bytes) * 100 / total_bytes.max(1);
                        let rate = sent as f64 / started.elapsed().as_secs_f64().max(0.001);
                        anstream::eprintln!(
                            "uploading  {percent} %, {} sent, {}/s",
                            megabytes(sent),
                            megabytes(rate as u64)
                        );
                    }
                }
            }
        });
        Self { task, bar }
    }

    /// Ends it; the bar leaves no trace.
    pub fn end(self) {
        self.task.abort();
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
