//! Nodes put together from a parser's events, within the limits.
//!
//! Owns what is counted and what lies in what; the parsers' own events are their callers' business.

use super::{Limits, Node, Place, Value, YamlError};

/// A collection that is still open.
struct Frame {
    node: Node,
    /// The key that waits for its value.
    key: Option<Node>,
}

/// Documents in the making.
pub(super) struct Tree<'l> {
    limits: &'l Limits,
    documents: Vec<Node>,
    open: Vec<Frame>,
    events: usize,
    aliases: usize,
    /// Bytes of all tags, which are kept with their prefixes.
    tag_bytes: usize,
}

impl<'l> Tree<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            documents: Vec::new(),
            open: Vec::new(),
            events: 0,
            aliases: 0,
            tag_bytes: 0,
        }
    }

    /// Counts an event; that of a node has to have room, and so has its tag, resolved: `%TAG` has a few characters
    /// stand for a prefix of any length, in each node anew.
    pub(super) fn count(
        &mut self,
        place: Place,
        is_node: bool,
        tag_bytes: usize,
    ) -> Result<(), YamlError> {
        if is_node && self.events >= self.limits.events_max {
            return Err(YamlError::TooManyEvents {
                place,
                limit: self.limits.events_max,
            });
        }
        self.events = self.events.saturating_add(1);
        self.tag_bytes = self.tag_bytes.saturating_add(tag_bytes);
        let limit = self.limits.expanded_bytes_max();
        if self.tag_bytes > limit {
            return Err(YamlError::TagsTooLarge { place, limit });
        }
        Ok(())
    }

    /// Opens a collection, to which all belongs that comes before [`Self::close`].
    pub(super) fn open(&mut self, node: Node) -> Result<(), YamlError> {
        if self.open.len() >= self.limits.depth_max {
            return Err(self.too_deep(node.place));
        }
        self.open.push(Frame { node, key: None });
        Ok(())
    }

    pub(super) fn too_deep(&self, place: Place) -> YamlError {
        YamlError::TooDeep {
            place,
            limit: self.limits.depth_max,
        }
    }

    pub(super) fn close(&mut self) {
        if let Some(frame) = self.open.pop() {
            self.put(frame.node);
        }
    }

    pub(super) fn put_alias(&mut self, place: Place, name: String) -> Result<(), YamlError> {
        if self.aliases >= self.limits.aliases_max {
            return Err(YamlError::TooManyAliases {
                place,
                limit: self.limits.aliases_max,
            });
        }
        self.aliases = self.aliases.saturating_add(1);
        self.put(Node {
            place,
            tag: None,
            anchor: None,
            value: Value::Alias(name),
        });
        Ok(())
    }

    /// Puts a finished node where it belongs.
    pub(super) fn put(&mut self, node: Node) {
        let Some(Frame { node: parent, key }) = self.open.last_mut() else {
            self.documents.push(node);
            return;
        };
        match &mut parent.value {
            Value::Sequence(items) => items.push(node),
            Value::Mapping(pairs) => match key.take() {
                Some(key) => pairs.push((key, node)),
                None => *key = Some(node),
            },
            Value::Scalar { .. } | Value::Alias(_) => {}
        }
    }

    /// The node whose event came last.
    pub(super) fn newest(&mut self) -> Option<&mut Node> {
        let Some(Frame { node, key }) = self.open.last_mut() else {
            return self.documents.last_mut();
        };
        if key.is_some() {
            return key.as_mut();
        }
        let is_empty = match &node.value {
            Value::Sequence(items) => items.is_empty(),
            Value::Mapping(pairs) => pairs.is_empty(),
            Value::Scalar { .. } | Value::Alias(_) => true,
        };
        if is_empty {
            return Some(node);
        }
        match &mut node.value {
            Value::Sequence(items) => items.last_mut(),
            Value::Mapping(pairs) => pairs.last_mut().map(|(_, value)| value),
            Value::Scalar { .. } | Value::Alias(_) => None,
        }
    }

    pub(super) fn into_documents(self) -> Vec<Node> {
        self.documents
    }
}
