//! A tar inside a gzip stream, indexed front to back together with the stream's blocks.

use super::blocks::Mapper;
use super::sums::Summing;
use super::{Gunzip, GzipError};
use crate::archive::Limits;
use crate::archive::tar::{TarError, TarScan, TarScanner, Wanted};

/// Why a tar.gz cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarGzError {
    /// The gzip stream.
    #[error(transparent)]
    Gzip(#[from] GzipError),
    /// The tar inside.
    #[error(transparent)]
    Tar(#[from] TarError),
}

impl TarGzError {
    /// Stable word for what is wrong, as findings carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Gzip(error) => error.code(),
            Self::Tar(error) => error.code(),
        }
    }
}

/// Indexes a tar.gz that is fed front to back.
pub struct TarGzScanner {
    gunzip: Gunzip,
    scanner: TarScanner,
    mapper: Mapper,
    summing: Summing,
}

impl TarGzScanner {
    /// A scanner that holds the contents that `wanted` decides on.
    pub fn new(limits: &Limits, wanted: Wanted) -> Self {
        Self {
            gunzip: Gunzip::new(limits),
            scanner: TarScanner::new(limits).wanting(wanted),
            mapper: Mapper::default(),
            summing: Summing::default(),
        }
    }

    /// Takes the next bytes of the compressed stream.
    ///
    /// # Errors
    /// Where they are no tar.gz, or pass a limit. The scanner is of no use after that.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TarGzError> {
        self.summing.feed(bytes);
        loop {
            let (used, boundary) = self.gunzip.step(bytes)?;
            bytes = bytes.get(used..).unwrap_or_default();
            let output = self.gunzip.output();
            let is_idle = used == 0 && boundary.is_none() && output.is_empty();
            let hash = self.mapper.scan(output, &mut self.scanner)?;
            match hash {
                Some(hash) => self.gunzip.take_hash(&hash),
                None => self.gunzip.hash_output(),
            }
            if let Some(boundary) = boundary {
                self.mapper.boundary(&boundary, self.gunzip.window());
            }
            if is_idle {
                return Ok(());
            }
        }
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// Where gzip stream or tar end too early.
    pub fn finish(self) -> Result<TarScan, TarGzError> {
        self.gunzip.finish()?;
        let mut scan = self.scanner.finish()?;
        let blocks = self.mapper.finish(self.summing.finish());
        scan.index = scan.index.gzipped(blocks);
        Ok(scan)
    }
}
