//! Why a YAML document could not be read.

use super::Place;
#[cfg(doc)]
use super::{Limits, parse_first, resolve_aliases};

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// More bytes than [`Limits::bytes_max`].
    #[error("document has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// UTF-16 or UTF-32 by its byte order mark or its pattern of NULs.
    #[error("document is UTF-16 or UTF-32, expected UTF-8")]
    Utf16,
    /// Bytes that are not UTF-8.
    #[error("document is not valid UTF-8")]
    InvalidUtf8 {
        /// The first bad byte.
        place: Place,
    },
    /// A NUL character.
    #[error("document holds a NUL character")]
    Nul {
        /// The first one.
        place: Place,
    },
    /// Another control character, which [`parse_first`] refuses as libyaml does.
    #[error("document holds the control character U+{code:04X}")]
    Control {
        /// The first one.
        place: Place,
        /// Its number.
        code: u32,
    },
    /// Collections nested deeper than [`Limits::depth_max`].
    #[error("collections are nested deeper than {limit} levels")]
    TooDeep {
        /// The collection that is too deep.
        place: Place,
        /// The limit.
        limit: usize,
    },
    /// More than [`Limits::events_max`].
    #[error("document has more than {limit} nodes")]
    TooManyEvents {
        /// The first one too many.
        place: Place,
        /// The limit.
        limit: usize,
    },
    /// More than [`Limits::aliases_max`].
    #[error("document has more than {limit} aliases")]
    TooManyAliases {
        /// The first one too many.
        place: Place,
        /// The limit.
        limit: usize,
    },
    /// The resolved tree would have more than [`Limits::events_max`] nodes.
    #[error("aliases would make the document larger than {limit} nodes")]
    TooManyNodes {
        /// The alias or node that goes beyond the limit.
        place: Place,
        /// The limit.
        limit: usize,
    },
    /// All tags with their prefixes take more than a few times [`Limits::bytes_max`].
    #[error("tags with what `%TAG` has them stand for are longer than {limit} bytes in all")]
    TagsTooLarge {
        /// The node whose tag goes beyond the limit.
        place: Place,
        /// The limit.
        limit: usize,
    },
    /// The copies that aliases make take more than a few times [`Limits::bytes_max`].
    #[error("aliases would copy more than {limit} bytes")]
    CopiesTooLarge {
        /// The alias, or the node that one refers to, that goes beyond the limit.
        place: Place,
        /// The limit.
        limit: usize,
    },
    /// `*name` with no `&name` before it.
    #[error("alias `*{name}` has no anchor before it")]
    UnknownAnchor {
        /// The alias.
        place: Place,
        /// Its name.
        name: String,
    },
    /// `*name` inside the node that `&name` marks.
    #[error("alias `*{name}` stands inside the node that it refers to")]
    RecursiveAlias {
        /// The alias.
        place: Place,
        /// Its name.
        name: String,
    },
    /// Not YAML.
    #[error("document is not valid YAML: {reason}")]
    Syntax {
        /// Where reading stopped.
        place: Place,
        /// The parser's words.
        reason: String,
    },
}

impl YamlError {
    /// Where it is; `None` where the document as a whole is meant.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::TooLarge { .. } | Self::Utf16 => None,
            Self::InvalidUtf8 { place }
            | Self::Nul { place }
            | Self::Control { place, .. }
            | Self::TooDeep { place, .. }
            | Self::TooManyEvents { place, .. }
            | Self::TooManyAliases { place, .. }
            | Self::TooManyNodes { place, .. }
            | Self::TagsTooLarge { place, .. }
            | Self::CopiesTooLarge { place, .. }
            | Self::UnknownAnchor { place, .. }
            | Self::RecursiveAlias { place, .. }
            | Self::Syntax { place, .. } => Some(*place),
        }
    }
}
