//! A text, its tree, and splices into it.

use std::ops::Range;

use super::{
    EditError, Edited,
    fragment::{Fragment, Leaf, Style},
};
use crate::{
    error::Shape,
    tree::{Entry, Layout, Node, Plain, Value},
};

pub struct Document<'t> {
    text: &'t str,
    root: Node,
    style: Style,
}

/// Replace these bytes by this text.
type Splice = (Range<usize>, String);

/// Ends in [`EditError::Unsafe`] of the path being edited.
type Spliced = Option<Vec<Splice>>;

impl<'t> Document<'t> {
    pub fn parse(text: &'t str) -> Result<Self, EditError> {
        let root = Node::parse(text).map_err(EditError::Text)?;
        let style = Style { newline: newline(text), step: step(&root) };
        Ok(Self { text, root, style })
    }

    /// Texts of the list at `path`; `None` for an item that is not a scalar. Empty where there is no list.
    pub fn items(&self, path: &[&str]) -> Vec<Option<&str>> {
        let found = path.iter().try_fold(&self.root, |node, key| Some(&entry(node, key)?.value));
        let Some(Node { value: Value::List(_, items), .. }) = found else { return Vec::new() };
        items.iter().map(|item| item.as_text()).collect()
    }

    /// The text with `leaf` at `path`.
    pub fn put(&self, path: &[&str], leaf: Leaf<'_>) -> Result<Edited, EditError> {
        let mut expected = self.root.plain();
        expected.put(path, leaf);
        if expected == self.root.plain() {
            return Ok(Edited::Unchanged);
        }
        let cursor = Cursor { node: &self.root, entry: None, in_flow: false };
        let splices = self.put_below(cursor, path, 0, leaf)?;
        self.apply(path, splices, &expected).map(Edited::Changed)
    }

    /// The text without item `index` of the list at `path`.
    pub fn remove_item(&self, path: &[&str], index: usize) -> Result<String, EditError> {
        let mut expected = self.root.plain();
        expected.remove(path, index);
        let splices = self.remove_splices(path, index);
        self.apply(path, splices, &expected)
    }

    fn apply(&self, path: &[&str], splices: Spliced, expected: &Plain) -> Result<String, EditError> {
        let refuse = || EditError::Unsafe { key: path.join(".") };
        let mut splices = splices.ok_or_else(refuse)?;
        splices.sort_by_key(|(range, _)| range.start);
        let mut text = self.text.to_owned();
        for (range, replacement) in splices.into_iter().rev() {
            text.replace_range(range, &replacement);
        }
        let means_expected = Node::parse(&text).is_ok_and(|root| root.plain() == *expected);
        means_expected.then_some(text).ok_or_else(refuse)
    }

    fn put_below(
        &self,
        at: Cursor<'_>,
        path: &[&str],
        depth: usize,
        leaf: Leaf<'_>,
    ) -> Result<Spliced, EditError> {
        let missing = Fragment { keys: &path[depth..], leaf };
        let wrong = |expected| EditError::WrongShape {
            key: path[..depth].join("."),
            at: at.node.at,
            expected,
            found: at.node.shape(),
        };
        match (&at.node.value, path.get(depth), leaf) {
            (Value::Null, _, _) => Ok(self.fill(at, missing)),
            (Value::Map(_, entries), Some(_), _) if entries.is_empty() => Ok(self.fill(at, missing)),
            (Value::Map(layout, entries), Some(key), _) => match entry(at.node, key) {
                Some(entry) => self.put_below(at.enter(entry, *layout), path, depth + 1, leaf),
                None => Ok(self.insert_entry(at, *layout, entries, missing)),
            },
            (Value::List(_, items), None, Leaf::Item(_)) if items.is_empty() => Ok(self.fill(at, missing)),
            (Value::List(layout, items), None, Leaf::Item(_)) => Ok(self.append(at, *layout, items, missing)),
            (Value::Scalar(_), None, Leaf::Scalar(_)) => Ok(self.on_one_line(&at.node.span, missing.flow())),
            (_, Some(_), _) => Err(wrong(Shape::Section)),
            (_, None, Leaf::Scalar(_)) => Err(wrong(Shape::Value)),
            (_, None, Leaf::Item(_)) => Err(wrong(Shape::List)),
        }
    }

    /// Gives a key without value, or with `{}`, `[]` or `~`, its first content.
    fn fill(&self, at: Cursor<'_>, fragment: Fragment<'_>) -> Spliced {
        let span = &at.node.span;
        let Some(entry) = at.entry else { return self.fill_root(span, fragment) };
        let colon = self.after_colon(entry)?;
        let one_value = matches!(fragment, Fragment { keys: [], leaf: Leaf::Scalar(_) });
        if one_value || at.in_flow || self.text[colon..span.end.max(colon)].contains('\n') {
            return match span.is_empty() {
                true => Some(vec![(colon..colon, format!(" {}", fragment.flow()))]),
                false => self.on_one_line(span, fragment.flow()),
            };
        }
        let lines = fragment.block(entry.key_at.column - 1 + self.style.step, self.style);
        let below = self.lines_at(self.line_end(span.end.max(colon)), &lines);
        Some(vec![(colon..span.end.max(colon), String::new()), below])
    }

    fn fill_root(&self, span: &Range<usize>, fragment: Fragment<'_>) -> Spliced {
        match span.is_empty() {
            true => Some(vec![self.new_section(&fragment.block(0, self.style))]),
            false => self.on_one_line(span, fragment.flow()),
        }
    }

    /// Replaces a value that holds neither comments nor line breaks.
    fn on_one_line(&self, span: &Range<usize>, replacement: String) -> Spliced {
        let old = &self.text[span.clone()];
        (!old.contains('\n')).then(|| vec![(span.clone(), replacement)])
    }

    fn insert_entry(
        &self,
        at: Cursor<'_>,
        layout: Layout,
        entries: &[Entry],
        fragment: Fragment<'_>,
    ) -> Spliced {
        let (first, last) = (entries.first()?, entries.last()?);
        let end = self.entry_end(last);
        if layout == Layout::Flow {
            return Some(vec![(end..end, format!(", {}", fragment.flow_entry()))]);
        }
        let lines = fragment.block(first.key_at.column - 1, self.style);
        match at.entry {
            Some(_) => Some(vec![self.lines_at(self.line_end(end), &lines)]),
            None => Some(vec![self.new_section(&lines)]),
        }
    }

    /// At the end of the text, after a blank line.
    fn new_section(&self, lines: &str) -> Splice {
        let newline = self.style.newline;
        let (place, lines) = self.lines_at(self.text.len(), lines);
        let last_line = self.text.trim_end_matches(['\n', '\r']).rsplit('\n').next().unwrap_or_default();
        let blank =
            if last_line.trim().is_empty() || self.text.ends_with(&newline.repeat(2)) { "" } else { newline };
        match lines.strip_prefix(newline) {
            Some(rest) => (place, format!("{newline}{blank}{rest}")),
            None => (place, format!("{blank}{lines}")),
        }
    }

    fn append(&self, at: Cursor<'_>, layout: Layout, items: &[Node], fragment: Fragment<'_>) -> Spliced {
        let (first, last) = (items.first()?, items.last()?);
        if layout == Layout::Flow {
            let item = fragment.flow();
            let item = item.strip_prefix('[')?.strip_suffix(']')?;
            return Some(vec![(last.span.end..last.span.end, format!(", {item}"))]);
        }
        let dash = self.dash(first)?;
        let lines = fragment.block(dash - self.line_start(dash), self.style);
        Some(vec![self.lines_at(self.line_end(at.node.span.end), &lines)])
    }

    fn remove_splices(&self, path: &[&str], index: usize) -> Spliced {
        let (last, above) = path.split_last()?;
        let section = above.iter().try_fold(&self.root, |node, key| Some(&entry(node, key)?.value))?;
        let entry = entry(section, last)?;
        let Value::List(layout, items) = &entry.value.value else { return None };
        let item = items.get(index)?;
        if *layout == Layout::Flow {
            return Some(vec![(flow_item_range(items, index)?, String::new())]);
        }
        let lines = self.line_start(self.dash(item)?)..self.line_end(item.span.end);
        let mut splices = vec![(lines, String::new())];
        if items.len() == 1 {
            let colon = self.after_colon(entry)?;
            splices.push((colon..colon, " []".to_owned()));
        }
        Some(splices)
    }

    /// The `-` of a block list's item, when only spaces stand before it on its line.
    fn dash(&self, item: &Node) -> Option<usize> {
        let dash = self.text[..item.span.start].trim_end_matches(' ').strip_suffix('-')?.len();
        let indent = &self.text[self.line_start(dash)..dash];
        indent.bytes().all(|b| b == b' ').then_some(dash)
    }

    fn entry_end(&self, entry: &Entry) -> usize {
        match entry.value.span.is_empty() {
            true => self.after_colon(entry).unwrap_or(entry.key_span.end),
            false => entry.value.span.end,
        }
    }

    fn after_colon(&self, entry: &Entry) -> Option<usize> {
        let rest = &self.text[entry.key_span.end..];
        let gap = rest.len() - rest.trim_start_matches(' ').len();
        rest[gap..].starts_with(':').then_some(entry.key_span.end + gap + 1)
    }

    /// Inserts whole lines at the start of a line, or at the end of a text that lacks its last line break.
    fn lines_at(&self, offset: usize, lines: &str) -> Splice {
        let before = &self.text[..offset];
        let starts_line = before.is_empty() || before == "\u{feff}" || before.ends_with('\n');
        let newline = if starts_line { "" } else { self.style.newline };
        (offset..offset, format!("{newline}{lines}"))
    }

    fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Past the line break of the line that contains `offset`.
    fn line_end(&self, offset: usize) -> usize {
        self.text[offset..].find('\n').map_or(self.text.len(), |newline| offset + newline + 1)
    }
}

/// A node on the way down, with what surrounds it.
#[derive(Clone, Copy)]
struct Cursor<'n> {
    node: &'n Node,
    /// The entry whose value `node` is; `None` for the root.
    entry: Option<&'n Entry>,
    in_flow: bool,
}

impl<'n> Cursor<'n> {
    fn enter(self, entry: &'n Entry, layout: Layout) -> Self {
        Cursor { node: &entry.value, entry: Some(entry), in_flow: self.in_flow || layout == Layout::Flow }
    }
}

fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n Entry> {
    node.entries().iter().find(|entry| entry.key == key)
}

/// An item and one of the commas beside it.
fn flow_item_range(items: &[Node], index: usize) -> Option<Range<usize>> {
    let item = items.get(index)?;
    Some(match (index.checked_sub(1).and_then(|before| items.get(before)), items.get(index + 1)) {
        (_, Some(next)) => item.span.start..next.span.start,
        (Some(previous), None) => previous.span.end..item.span.end,
        (None, None) => item.span.clone(),
    })
}

fn newline(text: &str) -> &'static str {
    match text.split_once('\n') {
        Some((first, _)) if first.ends_with('\r') => "\r\n",
        Some(_) | None => "\n",
    }
}

/// The indentation of the first nested section, as a guide for new ones.
fn step(root: &Node) -> usize {
    let nested = |entry: &Entry| match &entry.value.value {
        Value::Map(Layout::Block, inner) => Some(inner.first()?.key_at.column - entry.key_at.column),
        Value::Null | Value::Scalar(_) | Value::List(..) | Value::Map(Layout::Flow, _) => None,
    };
    root.entries().iter().find_map(nested).unwrap_or(2)
}
