//! Aliases carried out, within bounds.
//!
//! Owns the one step of YAML that makes documents grow: the copies, and their bytes, are counted before they are
//! made.

use std::collections::{BTreeMap, BTreeSet};

use super::{Limits, Node, Place, Value, YamlError};

/// The same tree with each alias replaced by the node that it refers to.
///
/// `document` is a whole document's root: anchors are looked for in it, in the order of the text.
/// The copies keep the places of the original, and nothing keeps its anchor.
///
/// # Errors
/// [`YamlError::TooManyNodes`], [`YamlError::CopiesTooLarge`] and [`YamlError::TooDeep`] for trees that grow beyond
/// the limits, [`YamlError::RecursiveAlias`], [`YamlError::UnknownAnchor`].
pub fn resolve_aliases(document: &Node, limits: &Limits) -> Result<Node, YamlError> {
    let mut wanted = BTreeSet::new();
    collect_aliases(document, limits, 0, &mut wanted)?;
    let mut resolver = Resolver {
        spent: Spent {
            limits,
            nodes: 0,
            bytes: 0,
        },
        wanted,
        anchors: BTreeMap::new(),
        opened: 0,
    };
    Ok(resolver.resolve(document, 0)?.node)
}

fn collect_aliases(
    node: &Node,
    limits: &Limits,
    depth: usize,
    names: &mut BTreeSet<String>,
) -> Result<(), YamlError> {
    // A collection stands inside `depth` others; scalars stand one deeper and nest nothing.
    let is_collection = matches!(node.value, Value::Sequence(_) | Value::Mapping(_));
    if is_collection && depth >= limits.depth_max {
        return Err(YamlError::TooDeep {
            place: node.place,
            limit: limits.depth_max,
        });
    }
    match &node.value {
        Value::Scalar { .. } => {}
        Value::Alias(name) => {
            names.insert(name.clone());
        }
        Value::Sequence(items) => {
            for item in items {
                collect_aliases(item, limits, depth + 1, names)?;
            }
        }
        Value::Mapping(pairs) => {
            for (key, value) in pairs {
                collect_aliases(key, limits, depth + 1, names)?;
                collect_aliases(value, limits, depth + 1, names)?;
            }
        }
    }
    Ok(())
}

/// A resolved node with what a copy of it costs.
#[derive(Clone)]
struct Resolved {
    node: Node,
    nodes: usize,
    /// Of texts and tags.
    bytes: usize,
    /// Collections on the longest way down, itself included.
    height: usize,
}

/// An anchor's node; `None` while it is still open.
struct Anchored {
    opened: usize,
    resolved: Option<Resolved>,
}

/// What was made so far.
struct Spent<'l> {
    limits: &'l Limits,
    nodes: usize,
    /// Of the copies.
    bytes: usize,
}

impl Spent<'_> {
    fn count_nodes(&mut self, nodes: usize, place: Place) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(nodes);
        let limit = self.limits.events_max;
        if self.nodes > limit {
            return Err(YamlError::TooManyNodes { place, limit });
        }
        Ok(())
    }

    fn count_bytes(&mut self, bytes: usize, place: Place) -> Result<(), YamlError> {
        self.bytes = self.bytes.saturating_add(bytes);
        let limit = self.limits.expanded_bytes_max();
        if self.bytes > limit {
            return Err(YamlError::CopiesTooLarge { place, limit });
        }
        Ok(())
    }
}

struct Resolver<'l> {
    spent: Spent<'l>,
    wanted: BTreeSet<String>,
    anchors: BTreeMap<String, Anchored>,
    opened: usize,
}

impl Resolver<'_> {
    /// Resolves `node`, which stands inside `depth` collections; `collect_aliases` has bounded them.
    fn resolve(&mut self, node: &Node, depth: usize) -> Result<Resolved, YamlError> {
        if let Value::Alias(name) = &node.value {
            return self.copy(name, node.place, depth);
        }
        let anchor = node
            .anchor
            .as_ref()
            .filter(|name| self.wanted.contains(*name));
        self.opened = self.opened.saturating_add(1);
        let opened = self.opened;
        if let Some(name) = anchor {
            self.anchors.insert(
                name.clone(),
                Anchored {
                    opened,
                    resolved: None,
                },
            );
        }
        self.spent.count_nodes(1, node.place)?;
        let (mut nodes, mut height) = (1_usize, 0_usize);
        let text = node.as_str().map_or(0, str::len);
        let mut bytes = text.saturating_add(node.tag.as_ref().map_or(0, String::len));
        let mut add = |child: &Resolved| {
            nodes = nodes.saturating_add(child.nodes);
            bytes = bytes.saturating_add(child.bytes);
            height = height.max(child.height);
        };
        let value = match &node.value {
            Value::Sequence(items) => {
                let mut resolved = Vec::with_capacity(items.len());
                for item in items {
                    let item = self.resolve(item, depth + 1)?;
                    add(&item);
                    resolved.push(item.node);
                }
                Value::Sequence(resolved)
            }
            Value::Mapping(pairs) => {
                let mut resolved = Vec::with_capacity(pairs.len());
                for (key, value) in pairs {
                    let key = self.resolve(key, depth + 1)?;
                    add(&key);
                    let value = self.resolve(value, depth + 1)?;
                    add(&value);
                    resolved.push((key.node, value.node));
                }
                Value::Mapping(resolved)
            }
            value @ (Value::Scalar { .. } | Value::Alias(_)) => value.clone(),
        };
        if matches!(value, Value::Sequence(_) | Value::Mapping(_)) {
            height += 1;
        }
        let node = Node {
            place: node.place,
            tag: node.tag.clone(),
            anchor: None,
            value,
        };
        let resolved = Resolved {
            node,
            nodes,
            bytes,
            height,
        };
        if let Some(name) = anchor {
            // Anchors inside each other keep a copy of the innermost node each.
            self.spent.count_bytes(bytes, resolved.node.place)?;
            if let Some(entry) = self.anchors.get_mut(name)
                && entry.opened == opened
            {
                entry.resolved = Some(resolved.clone());
            }
        }
        Ok(resolved)
    }

    fn copy(&mut self, name: &str, place: Place, depth: usize) -> Result<Resolved, YamlError> {
        let name = name.to_owned();
        let Some(anchored) = self.anchors.get(&name) else {
            return Err(YamlError::UnknownAnchor { place, name });
        };
        let Some(resolved) = &anchored.resolved else {
            return Err(YamlError::RecursiveAlias { place, name });
        };
        let limit = self.spent.limits.depth_max;
        if depth.saturating_add(resolved.height) > limit {
            return Err(YamlError::TooDeep { place, limit });
        }
        // Counted before the copy is made: a copy too large is never built.
        self.spent.count_nodes(resolved.nodes, place)?;
        self.spent.count_bytes(resolved.bytes, place)?;
        Ok(resolved.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    fn one(text: &str) -> Node {
        parse(text.as_bytes(), &Limits::default())
            .unwrap()
            .remove(0)
    }

    fn place(line: u64, column: u64) -> Place {
        Place { line, column }
    }

    #[test]
    fn ok_aliases_resolve_to_the_nearest_anchor_before_them() {
        let root = one("a: &x [1]\nb: *x\nc: &x {d: *x}\ne: *x\n*x : f\n");
        assert_eq!(root.get("b").unwrap().value, Value::Alias("x".to_owned()));
        // `*x` in `c` would stand inside its own node.
        let error = resolve_aliases(&root, &Limits::default()).unwrap_err();
        assert_eq!(
            error,
            YamlError::RecursiveAlias {
                place: place(3, 11),
                name: "x".to_owned()
            }
        );

        let root = one("a: &x [1, &y z]\nb: {c: *x, d: *y}\n");
        let resolved = resolve_aliases(&root, &Limits::default()).unwrap();
        assert_eq!(
            resolved
                .get("b")
                .unwrap()
                .get("c")
                .unwrap()
                .as_sequence()
                .unwrap()[1]
                .as_str(),
            Some("z")
        );
        assert_eq!(
            resolved.get("b").unwrap().get("d").unwrap().as_str(),
            Some("z")
        );
        assert_eq!(
            resolved.get("b").unwrap().get("c").unwrap().place,
            place(1, 4 + 3)
        );
    }

    #[test]
    fn ok_an_anchor_set_again_inside_its_own_node_means_the_inner_one() {
        let root = one("a: &x [&x y, z]\nb: *x\n");
        let resolved = resolve_aliases(&root, &Limits::default()).unwrap();
        assert_eq!(resolved.get("b").unwrap().as_str(), Some("y"));
    }

    #[test]
    fn err_resolving_counts_nodes_and_depth() {
        let limits = Limits {
            events_max: 20,
            depth_max: 4,
            ..Limits::default()
        };
        let wide = parse(b"[&a [1, 2, 3, 4], *a, *a, *a]", &limits)
            .unwrap()
            .remove(0);
        assert!(matches!(
            resolve_aliases(&wide, &limits),
            Err(YamlError::TooManyNodes { limit: 20, .. })
        ));
        let deep = parse(b"[&a [[1]], [[*a]]]", &limits).unwrap().remove(0);
        assert!(matches!(
            resolve_aliases(&deep, &limits),
            Err(YamlError::TooDeep { limit: 4, .. })
        ));
        let fits = parse(b"[&a [[1]], [*a]]", &limits).unwrap().remove(0);
        assert!(resolve_aliases(&fits, &limits).is_ok());
    }

    #[test]
    fn err_copies_of_long_texts_are_counted_before_they_are_made() {
        let limits = Limits {
            bytes_max: 150,
            ..Limits::default()
        };
        // Fifteen copies, and the one that is kept for them.
        let copied = |node: &str| {
            let text = format!("[{node}, {}]", ["*a"; 15].join(", "));
            let root = parse(text.as_bytes(), &limits).unwrap().remove(0);
            resolve_aliases(&root, &limits).map(|_| ())
        };
        assert_eq!(copied(&format!("&a {}", "x".repeat(75))), Ok(()));
        for node in [
            format!("&a {}", "x".repeat(76)),
            format!("!{} &a x", "t".repeat(76)),
        ] {
            let refused = copied(&node);
            assert!(
                matches!(refused, Err(YamlError::CopiesTooLarge { limit: 1_200, .. })),
                "{node}: {refused:?}"
            );
        }
    }

    #[test]
    fn err_a_billion_laughs_within_the_alias_limit_stop_at_the_node_limit() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            text.push_str(&format!(
                "a{level}: &a{level} [{}]\n",
                vec![format!("*a{}", level - 1); 9].join(", ")
            ));
        }
        let limits = Limits {
            aliases_max: 1_000,
            ..Limits::default()
        };
        let root = parse(text.as_bytes(), &limits).unwrap().remove(0);
        let outcome = resolve_aliases(&root, &limits);
        assert!(matches!(outcome, Err(YamlError::TooManyNodes { .. })));
    }
}
