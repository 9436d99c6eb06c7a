//! What is inserted: a scalar or the first item of a list, under keys that do not exist yet.

use crate::{resolved::yaml_scalar, tree::Plain};

/// The wanted value at the end of a path.
#[derive(Debug, Clone, Copy)]
pub enum Leaf<'a> {
    Scalar(&'a str),
    /// One more item of a list.
    Item(&'a str),
}

/// A leaf and the keys above it that have to be created with it.
#[derive(Debug, Clone, Copy)]
pub struct Fragment<'a> {
    pub keys: &'a [&'a str],
    pub leaf: Leaf<'a>,
}

/// How the surrounding text is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub newline: &'static str,
    /// Columns per level.
    pub step: usize,
}

impl Fragment<'_> {
    /// On one line: `v`, `[v]`, `{k: v}`.
    pub fn flow(&self) -> String {
        let leaf = match self.leaf {
            Leaf::Scalar(text) => yaml_scalar(text),
            Leaf::Item(text) => format!("[{}]", yaml_scalar(text)),
        };
        self.keys.iter().rev().fold(leaf, |inner, key| format!("{{{}: {inner}}}", yaml_scalar(key)))
    }

    /// `k: v`, for a flow section that exists. The first key is the entry's own.
    pub fn flow_entry(&self) -> String {
        let flow = self.flow();
        match self.keys {
            [] => flow,
            [_, ..] => flow[1..flow.len() - 1].to_owned(),
        }
    }

    /// Whole lines, the first key or item at column `indent`.
    pub fn block(&self, indent: usize, style: Style) -> String {
        let newline = style.newline;
        let pad = " ".repeat(indent);
        match (self.keys, self.leaf) {
            ([], Leaf::Item(text)) => format!("{pad}- {}{newline}", yaml_scalar(text)),
            ([], Leaf::Scalar(text)) => format!("{pad}{}{newline}", yaml_scalar(text)),
            ([key], Leaf::Scalar(text)) => {
                format!("{pad}{}: {}{newline}", yaml_scalar(key), yaml_scalar(text))
            }
            ([key, keys @ ..], leaf) => {
                let inner = Fragment { keys, leaf }.block(indent + style.step, style);
                format!("{pad}{}:{newline}{inner}", yaml_scalar(key))
            }
        }
    }
}

impl Plain {
    /// What a text should mean after `leaf` has been put at `path`.
    pub fn put(&mut self, path: &[&str], leaf: Leaf<'_>) {
        let Some((key, rest)) = path.split_first() else { return self.put_here(leaf) };
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Vec::new());
        }
        let Self::Map(entries) = self else { return };
        let index = entries.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
            entries.push(((*key).to_owned(), Self::Null));
            entries.len() - 1
        });
        entries[index].1.put(rest, leaf);
    }

    fn put_here(&mut self, leaf: Leaf<'_>) {
        match (leaf, self) {
            (Leaf::Scalar(text), place) => *place = Self::Scalar(text.to_owned()),
            (Leaf::Item(text), Self::List(items)) => items.push(Self::Scalar(text.to_owned())),
            (Leaf::Item(text), place) => *place = Self::List(vec![Self::Scalar(text.to_owned())]),
        }
    }

    /// What a text should mean without item `index` of the list at `path`.
    pub fn remove(&mut self, path: &[&str], index: usize) {
        match (path.split_first(), self) {
            (None, Self::List(items)) if index < items.len() => drop(items.remove(index)),
            (Some((key, rest)), Self::Map(entries)) => {
                entries.iter_mut().filter(|(known, _)| known == key).for_each(|(_, v)| v.remove(rest, index));
            }
            (None | Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_reads_the_same_on_one_line_and_on_several() {
        let style = Style { newline: "\n", step: 2 };
        for (keys, leaf) in [
            (&["a", "b"][..], Leaf::Scalar("x y")),
            (&["a"], Leaf::Item("/ip6/::/tcp/0")),
            (&["a", "b", "c"], Leaf::Item("1")),
            (&[], Leaf::Item("on")),
        ] {
            let fragment = Fragment { keys, leaf };
            let flow = crate::tree::Node::parse(&fragment.flow()).unwrap().plain();
            let block = crate::tree::Node::parse(&fragment.block(3, style)).unwrap().plain();
            let mut expected = Plain::Null;
            expected.put(keys, leaf);
            assert_eq!((&flow, &block), (&expected, &expected));
        }
    }
}
