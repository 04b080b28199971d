//! What was begun for a revision and must not stay: uploads are aborted, temporary objects deleted.

use futures_util::stream::{self, StreamExt};

use super::{Begun, Transfer};
use crate::revision::{MultipartUploads, ObjectStore, Upload, WrittenObject};
use crate::service_error::{Kind, ServiceError};
use crate::splice::cost::COPIES_IN_FLIGHT;

impl<S: ObjectStore + MultipartUploads> Transfer<'_, S> {
    /// Ends what must not stay; the lifecycle rules take what cannot be ended now.
    pub(super) async fn end(&self, begun: Begun) {
        let ended = match &begun {
            Begun::Upload(upload) if upload.object == *self.object => {
                self.store.abort(upload).await
            }
            Begun::Upload(upload) => self.undo(upload).await,
            Begun::Temporary(object, written) => self.store.delete(object, written).await,
        };
        if let Err(error) = ended {
            tracing::warn!("what was begun for a revision stays: {error}");
        }
        self.forget(&begun);
    }

    /// Ends the upload of a temporary object, or what S3 made of it if its completion was given up while it
    /// was on its way.
    async fn undo(&self, upload: &Upload) -> Result<(), ServiceError> {
        let object = &upload.object;
        let aborted = self.store.abort(upload).await;
        match self
            .store
            .head(
                Some(&object.region),
                &object.bucket,
                &object.key,
                None,
                None,
            )
            .await
        {
            Ok(head) => {
                let written = WrittenObject {
                    etag: head.etag,
                    version_id: head.version_id,
                };
                self.store.delete(object, &written).await
            }
            // Without the right to list the bucket, S3 says so of a key that is not there.
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::AccessDenied) => aborted,
            Err(error) => Err(error),
        }
    }

    /// Ends all that was begun and is not ended.
    pub(super) async fn clean(&self) {
        let left = std::mem::take(&mut *self.begun());
        stream::iter(left)
            .for_each_concurrent(COPIES_IN_FLIGHT, |begun| self.end(begun))
            .await;
    }
}
