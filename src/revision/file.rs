//! Carries a splice out on this machine, from a file to a file: for measuring, and for whoever wants a
//! revision without S3. Long stretches are copied by the kernel where it can.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::Cost;
use crate::object::ByteRange;
use crate::splice::parts::{Delivery, Part, PartError, PartLimits, Upload, plan_parts};
use crate::splice::{AssembleError, Assembler, SplicePlan};
use crate::verify::{Verifier, VerifyError};

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The plan does not fit.
    #[error(transparent)]
    Parts(#[from] PartError),
    /// Bytes that passed cannot be put together.
    #[error(transparent)]
    Assembly(#[from] AssembleError),
    /// Bytes that passed are not what the archive's directory says.
    #[error(transparent)]
    Unverified(#[from] VerifyError),
    /// The source.
    #[error("bytes {range} of the source cannot be read")]
    Read {
        /// Which bytes.
        range: ByteRange,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The target, or a copy inside the kernel.
    #[error("the revision cannot be written")]
    Write(#[source] io::Error),
}

/// Writes a spliced revision from `source` to `target`, at the target's position. `verifier`, which has to be
/// over the whole source, sees what passes; without one, headers that are rewritten are compared alone.
///
/// # Errors
/// What went wrong; what is written by then stays.
pub fn carry_out_file(
    plan: &SplicePlan<'_>,
    source: &File,
    target: &File,
    verifier: Option<&Verifier<'_>>,
) -> Result<Cost, FileError> {
    let parts = plan_parts(plan, &PartLimits::of_a_file())?;
    let mut writing = Writing {
        plan,
        source,
        target,
        verifier: verifier.map(|verifier| verifier.over(parts.passing())),
        buffer: Vec::new(),
    };
    match &parts.delivery {
        Delivery::CopyObject => writing.copy(ByteRange::new(0, plan.source_size()))?,
        Delivery::PutObject(upload) => writing.put(upload)?,
        Delivery::Multipart(list) => {
            for part in list {
                match part {
                    Part::Copy(range) => writing.copy(*range)?,
                    Part::Upload(upload) => writing.put(upload)?,
                    Part::Join(join) => {
                        writing.copy(join.copied)?;
                        writing.put(&join.upload)?;
                    }
                }
            }
        }
    }
    if let Some(verifier) = writing.verifier {
        verifier.finish()?;
    }
    Ok(Cost {
        size: plan.output_size(),
        bytes_copied: parts.traffic.copied_bytes,
        bytes_got: parts.traffic.got_bytes,
        bytes_put: parts.traffic.put_bytes,
    })
}

struct Writing<'a> {
    plan: &'a SplicePlan<'a>,
    source: &'a File,
    target: &'a File,
    verifier: Option<Verifier<'a>>,
    buffer: Vec<u8>,
}

impl Writing<'_> {
    fn copy(&self, range: ByteRange) -> Result<(), FileError> {
        let mut source = self.source;
        let failed = |source| FileError::Read { range, source };
        source.seek(SeekFrom::Start(range.start)).map_err(failed)?;
        let copied = io::copy(&mut source.take(range.length()), &mut &*self.target)
            .map_err(FileError::Write)?;
        if copied == range.length() {
            Ok(())
        } else {
            Err(failed(io::ErrorKind::UnexpectedEof.into()))
        }
    }

    fn put(&mut self, upload: &Upload) -> Result<(), FileError> {
        let mut assembler = Assembler::new(self.plan, upload);
        for range in upload.gets() {
            let range = *range;
            let failed = |source| FileError::Read { range, source };
            let mut source = self.source;
            source.seek(SeekFrom::Start(range.start)).map_err(failed)?;
            self.buffer.clear();
            let read = source
                .take(range.length())
                .read_to_end(&mut self.buffer)
                .map_err(failed)?;
            if read as u64 != range.length() {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Some(verifier) = &mut self.verifier {
                verifier.feed(range.start, &self.buffer)?;
            }
            assembler.feed(range.start, &self.buffer)?;
        }
        let body = assembler.finish()?;
        (&*self.target).write_all(&body).map_err(FileError::Write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Limits;
    use crate::archive::zip::testing::{Making, ZipMaking, index_of};
    use crate::contents::{KeptEntry, KeptName};
    use crate::splice::plan_splice;

    #[test]
    fn ok_a_file_holds_what_the_steps_say() {
        let content: Vec<u8> = (0..3_000_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        let entry = |name: &str, length: usize| Making {
            deflated: false,
            ..Making::new(name, &content[..length])
        };
        let object = ZipMaking::of([
            entry("app/small", 100),
            entry("app/large", 12_000_000),
            entry("beside", 400_000),
            entry("app/last", 600_000),
        ])
        .make();
        let zip = index_of(&object);
        let kept = [0, 1, 3].map(|index| KeptEntry {
            index,
            name: KeptName::Suffix { skip: 4 },
        });
        let plan = plan_splice(&zip, &kept).unwrap();
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&object).unwrap();
        let mut target = tempfile::tempfile().unwrap();
        let verifier = Verifier::new(&zip, &kept, Vec::new(), &Limits::default());
        let cost = carry_out_file(&plan, &source, &target, Some(&verifier)).unwrap();
        assert!(
            cost.bytes_copied > 12_000_000 && cost.bytes_put < 1_000_000,
            "{cost:?}"
        );
        let mut found = Vec::new();
        target.rewind().unwrap();
        target.read_to_end(&mut found).unwrap();
        assert_eq!(found.len() as u64, plan.output_size());
        let again = index_of(&found);
        let names: Vec<_> = again.entries().map(|entry| entry.name.to_vec()).collect();
        assert_eq!(names, [&b"small"[..], b"large", b"last"]);
        for (i, length) in [100, 12_000_000, 600_000].into_iter().enumerate() {
            let span = again.content_span(i).unwrap();
            let bytes = &found[span.start as usize..span.end as usize];
            let read = again.read_content(i, bytes, u64::MAX).unwrap();
            assert!(read == content[..length]);
        }
        let damaged = source.metadata().unwrap().len() - 1_000;
        source.set_len(damaged / 2).unwrap();
        let error = carry_out_file(&plan, &source, &target, None).unwrap_err();
        assert!(matches!(error, FileError::Read { .. }), "{error}");
    }
}
