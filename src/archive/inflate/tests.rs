use flate2::{Compress, Compression, FlushCompress, FlushDecompress, Status};
use proptest::prelude::*;

use super::*;

/// Text, noise, runs and repeats far back, so that every kind of block and code comes up.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(length + 70_000);
    while bytes.len() < length {
        let roll = next();
        let run = 1 + (roll >> 8) as usize % 3_000;
        match roll % 8 {
            0 => bytes.extend((0..run * 20).map(|_| next() as u8)),
            1 => bytes.extend(std::iter::repeat_n(roll as u8, run)),
            2 | 3 if !bytes.is_empty() => {
                let back = 1 + (roll >> 24) as usize % bytes.len().min(33_000);
                for _ in 0..run {
                    bytes.push(bytes[bytes.len() - back]);
                }
            }
            4 => bytes.extend((0..run).map(|_| (next() % 4) as u8)),
            _ => {
                for _ in 0..run / 8 {
                    bytes.extend(format!("{} line {:x}\n", next() % 90, next() % 5_000).bytes());
                }
            }
        }
    }
    bytes.truncate(length);
    bytes
}

/// A deflate stream in which each piece is flushed in its own way.
pub(crate) fn deflate(content: &[u8], level: u32, flushes: &[(usize, u8)]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(level), false);
    let mut out = Vec::new();
    let mut rest = content;
    let mut run = |mut piece: &[u8], flush| {
        loop {
            out.reserve(100_000);
            let before = compress.total_in();
            let status = compress.compress_vec(piece, &mut out, flush).unwrap();
            piece = &piece[(compress.total_in() - before) as usize..];
            let has_room = out.len() < out.capacity();
            if status == Status::StreamEnd || (piece.is_empty() && has_room) {
                break;
            }
        }
    };
    for (length, flush) in flushes {
        let (piece, later) = rest.split_at((*length).min(rest.len()));
        let flush = match flush % 4 {
            0 => FlushCompress::None,
            1 => FlushCompress::Sync,
            2 => FlushCompress::Full,
            _ => FlushCompress::Partial,
        };
        run(piece, flush);
        rest = later;
    }
    run(rest, FlushCompress::Finish);
    out
}

/// Where a block begins: bit, content before it.
type Start = (u64, usize);
/// Content, block starts and the bytes behind the stream.
type Inflated = (Vec<u8>, Vec<Start>, Vec<u8>);

/// Inflates in pieces of these sizes, over and over; gives content, block starts and leftover bytes.
fn inflate_in(stream: &[u8], pieces: &[usize]) -> Result<Inflated, Damaged> {
    let mut inflate = Inflate::new();
    let (mut content, mut starts) = (Vec::new(), vec![(0, 0)]);
    let (mut taken, mut given) = (0, 0);
    let mut pieces = pieces.iter().cycle();
    loop {
        if given == taken {
            given = (given + pieces.next().unwrap()).min(stream.len());
        }
        let (used, pause) = inflate.inflate(&stream[taken..given])?;
        taken += used;
        content.extend_from_slice(inflate.output());
        match pause {
            Pause::BlockEnd { is_last } => {
                let at = 8 * taken as u64 - u64::from(inflate.unread_bits());
                if !at.is_multiple_of(8) {
                    assert_eq!(inflate.edge(), stream[at as usize / 8]);
                }
                let window = content.len().saturating_sub(WINDOW_BYTES);
                assert!(inflate.window() == &content[window..]);
                if is_last {
                    let mut rest: Vec<u8> =
                        std::iter::from_fn(|| inflate.take_unread_byte()).collect();
                    rest.extend_from_slice(&stream[taken..]);
                    return Ok((content, starts, rest));
                }
                starts.push((at, content.len()));
            }
            Pause::Input if given == stream.len() => return Err(Damaged),
            Pause::Input | Pause::Output => (),
        }
    }
}

/// What zlib makes of it: content, and how many bytes it took.
fn zlib(stream: &[u8]) -> Option<(Vec<u8>, u64)> {
    let mut inflate = flate2::Decompress::new(false);
    let mut content = Vec::new();
    loop {
        content.reserve(100_000);
        let (taken, made) = (inflate.total_in(), content.len());
        let rest = &stream[taken as usize..];
        let status = inflate
            .decompress_vec(rest, &mut content, FlushDecompress::None)
            .ok()?;
        if status == Status::StreamEnd {
            return Some((content, inflate.total_in()));
        }
        if inflate.total_in() == taken && content.len() == made {
            return None;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ok_every_stream_comes_out_as_from_zlib_and_every_block_start_is_one(
        seed in any::<u64>(),
        length in 0..400_000usize,
        level in 0..10u32,
        flushes in prop::collection::vec((0..90_000usize, any::<u8>()), 0..6),
        pieces in prop::collection::vec(prop_oneof![1..20usize, 1..70_000usize], 1..5),
    ) {
        let content = content(seed, length);
        let mut stream = deflate(&content, level, &flushes);
        stream.extend_from_slice(b"behind");
        let (found, starts, rest) = inflate_in(&stream, &pieces).unwrap();
        prop_assert!(found == content);
        prop_assert_eq!(rest, b"behind");
        let (_, whole, _) = inflate_in(&stream, &[usize::MAX >> 1]).unwrap();
        prop_assert!(starts == whole);
        for (at, before) in starts {
            // zlib reads the blocks from there on, given what came before.
            if before > 0 && at.is_multiple_of(8) {
                let mut other = flate2::Decompress::new(false);
                other.set_dictionary(&content[before.saturating_sub(WINDOW_BYTES)..before]).unwrap();
                let mut after = Vec::with_capacity(content.len() - before + 1);
                let rest = &stream[(at / 8) as usize..];
                let status = other.decompress_vec(rest, &mut after, FlushDecompress::Finish);
                prop_assert_eq!(status.unwrap(), Status::StreamEnd);
                prop_assert!(after == content[before..]);
            }
            // And so does this inflater, resumed there.
            let window = &content[before.saturating_sub(WINDOW_BYTES)..before];
            let mut resumed = Inflate::new();
            resumed.resume(window, (at % 8) as u32);
            let (mut taken, mut after) = ((at / 8) as usize, Vec::new());
            loop {
                let (used, pause) = resumed.inflate(&stream[taken..]).unwrap();
                taken += used;
                after.extend_from_slice(resumed.output());
                if pause == (Pause::BlockEnd { is_last: true }) {
                    break;
                }
            }
            prop_assert!(after == content[before..]);
        }
    }

    #[test]
    fn ok_what_zlib_refuses_is_refused_and_the_rest_is_the_same(
        seed in any::<u64>(),
        length in 1..6_000usize,
        level in 0..10u32,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        piece in 1..500usize,
    ) {
        let mut stream = deflate(&content(seed, length), level, &[(length / 3, 3), (length / 3, 1)]);
        for (at, value) in damage {
            let at = at.index(stream.len());
            stream[at] = value;
        }
        let whole = inflate_in(&stream, &[stream.len()]);
        let cut = inflate_in(&stream, &[piece]);
        let agrees = whole == cut;
        prop_assert!(agrees);
        let found = whole.ok().map(|(content, _, rest)| (content, (stream.len() - rest.len()) as u64));
        let expected = zlib(&stream);
        let agrees = found == expected;
        prop_assert!(agrees, "{:?} bytes, zlib {:?}", found.map(|f| f.1), expected.map(|f| f.1));
    }

    #[test]
    fn ok_random_bytes_are_taken_as_zlib_takes_them(mut stream in prop::collection::vec(any::<u8>(), 1..400), dynamic in any::<bool>()) {
        if dynamic {
            stream[0] = stream[0] & !7 | 5;
        }
        let found = inflate_in(&stream, &[7]).ok().map(|(content, ..)| content);
        prop_assert_eq!(found, zlib(&stream).map(|(content, _)| content));
    }
}

#[test]
fn err_every_truncation_is_seen() {
    let stream = deflate(&content(3, 3_000), 6, &[(1_000, 1), (1_000, 3)]);
    for end in 0..stream.len() {
        assert_eq!(
            inflate_in(&stream[..end], &[64]),
            Err(Damaged),
            "cut at {end}"
        );
    }
}

#[test]
fn err_what_came_before_a_stream_is_not_its_own() {
    // A fixed block with a match of distance 1 at its very start.
    let (mut inflate, stream) = (Inflate::new(), [0x03 | 0x80, 0x00, 0x00, 0x00]);
    let first = deflate(b"xyz", 6, &[]);
    inflate.inflate(&first).unwrap();
    inflate.restart();
    let refused = (0..=255u8).filter(|byte| {
        let mut inflate = Inflate::new();
        inflate.inflate(&first).unwrap();
        inflate.restart();
        inflate.inflate(&[*byte, 0x02, 0x00, 0x00]).is_err()
    });
    assert!(refused.count() > 0 && inflate.inflate(&stream).is_err());
}
