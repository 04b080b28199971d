//! A file on this machine, read as an object would be.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use stagedrop::archive::Limits;
use stagedrop::artifact::{ArtifactError, OpenedArtifact};
use stagedrop::object::{ByteRange, SourceObject};
use stagedrop::revision::ObjectReader;
use stagedrop::service_error::{Kind, ServiceError};

use super::voice::Trouble;

/// A file and the object that it stands for.
pub struct LocalFile {
    file: File,
    /// What readers take it for.
    pub object: SourceObject,
}

impl LocalFile {
    /// Opens an archive on this machine.
    pub fn open(path: &Path) -> Result<Self, Trouble> {
        let with_path = |error: std::io::Error| Trouble::with_file(path, &error);
        let file = File::open(path).map_err(with_path)?;
        let status = file.metadata().map_err(with_path)?;
        if status.is_dir() {
            return Err(Trouble::new(
                format!("{} is a folder", path.display()),
                "give the archive that CI would upload",
            ));
        }
        Ok(Self {
            file,
            object: SourceObject {
                bucket: "local".parse()?,
                key: path.display().to_string().parse()?,
                version_id: None,
                etag: "local".into(),
                size: status.len(),
            },
        })
    }

    /// The archive's index.
    pub async fn artifact(&self) -> Result<OpenedArtifact<'_, Self>, ArtifactError> {
        OpenedArtifact::open(self, self.object.clone(), &Limits::default()).await
    }
}

impl ObjectReader for LocalFile {
    async fn read(&self, source: &SourceObject, range: ByteRange) -> Result<Bytes, ServiceError> {
        let mut bytes = vec![0; usize::try_from(range.length()).unwrap_or(usize::MAX)];
        self.file
            .read_exact_at(&mut bytes, range.start)
            .map_err(|error| ServiceError {
                operation: "reading",
                resource: source.key.to_string(),
                kind: Kind::Refused,
                code: None,
                message: error.to_string(),
            })?;
        Ok(bytes.into())
    }
}
