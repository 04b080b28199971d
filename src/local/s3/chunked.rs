//! `aws-chunked`, the encoding in which SDKs send bodies whose checksum follows them.
//!
//! Owns the decoding of the frames; knows neither HTTP nor signatures: chunk signatures are read
//! over, because the embedded S3 takes every credential.
//!
//! ```text
//! 5;chunk-signature=ab12…\r\n      size in hexadecimal, extensions
//! hello\r\n
//! 0\r\n                            the last chunk
//! x-amz-checksum-crc32:NhCmhg==\r\n   trailers, none to a few
//! \r\n
//! ```

use bytes::{Buf, Bytes};

/// Longest line of frame or trailer, in bytes.
const LINE_BYTES_MAX: usize = 4096;

/// Most trailers of one body.
const TRAILERS_MAX: usize = 16;

/// A body that is not `aws-chunked`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedError {
    /// A line does not end in time.
    #[error("line of an aws-chunked body is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// The chunk's head has no size.
    #[error("chunk has the size `{0}`, expected a hexadecimal number")]
    ChunkSize(String),
    /// The bytes behind a chunk are not its end.
    #[error("chunk of an aws-chunked body does not end with CR LF")]
    ChunkEnd,
    /// A trailer without a colon.
    #[error("trailer `{0}` has no colon")]
    Trailer(String),
    /// More trailers than anybody sends.
    #[error("aws-chunked body has more than {TRAILERS_MAX} trailers")]
    TooManyTrailers,
    /// The body ends within a frame.
    #[error("aws-chunked body ends before its last chunk")]
    Truncated,
}

#[derive(Debug)]
enum Expected {
    Head(Vec<u8>),
    Data(u64),
    /// CR LF behind a chunk, of which so many bytes were seen.
    DataEnd(usize),
    Trailer(Vec<u8>),
    Nothing,
}

/// Takes the frames off, whatever the pieces in which the body arrives.
#[derive(Debug)]
pub struct Decoder {
    expected: Expected,
    trailers: Vec<(String, String)>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            expected: Expected::Head(Vec::new()),
            trailers: Vec::new(),
        }
    }
}

impl Decoder {
    /// Takes the next piece; appends the data in it to `data`.
    pub fn feed(&mut self, mut piece: Bytes, data: &mut Vec<Bytes>) -> Result<(), ChunkedError> {
        while piece.has_remaining() {
            match &mut self.expected {
                Expected::Head(line) => {
                    if take_line(&mut piece, line)? {
                        let size = chunk_size(line)?;
                        self.expected = match size {
                            0 => Expected::Trailer(Vec::new()),
                            size => Expected::Data(size),
                        };
                    }
                }
                Expected::Data(left) => {
                    let wanted = usize::try_from(*left).unwrap_or(usize::MAX);
                    let part = piece.split_to(wanted.min(piece.len()));
                    *left -= u64::try_from(part.len()).unwrap_or(*left).min(*left);
                    data.push(part);
                    if *left == 0 {
                        self.expected = Expected::DataEnd(0);
                    }
                }
                Expected::DataEnd(seen) => {
                    let expected = if *seen == 0 { b'\r' } else { b'\n' };
                    if piece.get_u8() != expected {
                        return Err(ChunkedError::ChunkEnd);
                    }
                    *seen += 1;
                    if *seen == 2 {
                        self.expected = Expected::Head(Vec::new());
                    }
                }
                Expected::Trailer(line) => {
                    if take_line(&mut piece, line)? {
                        let text = String::from_utf8_lossy(line).trim().to_owned();
                        self.expected = if text.is_empty() {
                            Expected::Nothing
                        } else {
                            self.keep_trailer(text)?;
                            Expected::Trailer(Vec::new())
                        };
                    }
                }
                // Some clients end the body with one line feed too many.
                Expected::Nothing => piece.clear(),
            }
        }
        Ok(())
    }

    /// The trailers, names in lower case, once the body is at its end.
    pub fn finish(self) -> Result<Vec<(String, String)>, ChunkedError> {
        match self.expected {
            Expected::Nothing => Ok(self.trailers),
            // The last empty line is left out by some clients that have no trailers.
            Expected::Trailer(line) if line.is_empty() => Ok(self.trailers),
            _ => Err(ChunkedError::Truncated),
        }
    }

    fn keep_trailer(&mut self, text: String) -> Result<(), ChunkedError> {
        if self.trailers.len() >= TRAILERS_MAX {
            return Err(ChunkedError::TooManyTrailers);
        }
        let Some((name, value)) = text.split_once(':') else {
            return Err(ChunkedError::Trailer(text));
        };
        self.trailers
            .push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        Ok(())
    }
}

/// Moves bytes from `piece` to `line` up to a line feed; true where that was found.
fn take_line(piece: &mut Bytes, line: &mut Vec<u8>) -> Result<bool, ChunkedError> {
    while piece.has_remaining() {
        let byte = piece.get_u8();
        if byte == b'\n' {
            return Ok(true);
        }
        if line.len() >= LINE_BYTES_MAX {
            return Err(ChunkedError::LineTooLong);
        }
        line.push(byte);
    }
    Ok(false)
}

fn chunk_size(line: &[u8]) -> Result<u64, ChunkedError> {
    let text = String::from_utf8_lossy(line);
    let digits = text.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| ChunkedError::ChunkSize(digits.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Decoded = Result<(Vec<u8>, Vec<(String, String)>), ChunkedError>;

    fn decode(pieces: impl Iterator<Item = Bytes>) -> Decoded {
        let (mut decoder, mut data) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece, &mut data)?;
        }
        Ok((data.concat(), decoder.finish()?))
    }

    fn encode(chunks: &[Vec<u8>], signed: bool, trailers: &[(&str, &str)]) -> Vec<u8> {
        let extension = if signed {
            ";chunk-signature=0123abc"
        } else {
            ""
        };
        let mut body = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            body.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body.extend(format!("0{extension}\r\n").bytes());
        for (name, value) in trailers {
            body.extend(format!("{name}:{value}\r\n").bytes());
        }
        body.extend(b"\r\n");
        body
    }

    proptest! {
        #[test]
        fn ok_any_chunks_in_any_pieces(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..6),
            signed: bool,
            step in 1usize..40,
        ) {
            let body = Bytes::from(encode(&chunks, signed, &[("X-Amz-Checksum-Crc32", "NhCmhg==")]));
            let pieces = (0..body.len()).step_by(step).map(|at| body.slice(at..body.len().min(at + step)));
            let (data, trailers) = decode(pieces).unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(trailers, vec![("x-amz-checksum-crc32".to_owned(), "NhCmhg==".to_owned())]);
        }

        #[test]
        fn err_every_truncation(cut in 0usize..44) {
            let body = encode(&[b"hello".to_vec()], false, &[("x-amz-checksum-crc32", "NhCmhg==")]);
            let cut = Bytes::from(body).slice(..cut);
            // Where the last chunk's head is complete, trailers may be absent as a whole.
            let decoded = decode(std::iter::once(cut.clone()));
            prop_assert_eq!(decoded.is_ok(), cut.len() == b"5\r\nhello\r\n0\r\n".len());
        }

        #[test]
        fn ok_hostile_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(std::iter::once(Bytes::from(bytes)));
        }
    }

    #[test]
    fn err_malformed_frames() {
        let text =
            |text: &'static str| decode(std::iter::once(Bytes::from_static(text.as_bytes())));
        assert_eq!(
            text("zz\r\n"),
            Err(ChunkedError::ChunkSize("zz".to_owned()))
        );
        assert_eq!(text("1\r\nab"), Err(ChunkedError::ChunkEnd));
        assert_eq!(
            text("0\r\nno-colon\r\n"),
            Err(ChunkedError::Trailer("no-colon".to_owned()))
        );
        let long = Bytes::from(vec![b'1'; LINE_BYTES_MAX + 1]);
        assert_eq!(
            decode(std::iter::once(long)),
            Err(ChunkedError::LineTooLong)
        );
        let many = format!("0\r\n{}", "a:b\r\n".repeat(TRAILERS_MAX + 1));
        assert_eq!(
            decode(std::iter::once(Bytes::from(many))),
            Err(ChunkedError::TooManyTrailers)
        );
    }
}
