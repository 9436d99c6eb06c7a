//! A text, its tree, and splices into it.

use std::ops::Range;

use super::{
    EditError,
    change::{Change, Step},
    fragment::{self, Style},
    scan::Scan,
};
use crate::{
    resolved::Resolved,
    tree::{Entry, Layout, Node, Plain, Value},
};

pub struct Document<'t> {
    text: &'t str,
    pub root: Node,
    scan: Scan<'t>,
    style: Style,
}

/// Replace these bytes by this text.
type Splice = (Range<usize>, String);

/// `None` where the layout cannot be followed, which ends in [`EditError::Unsafe`].
type Spliced = Option<Vec<Splice>>;

impl<'t> Document<'t> {
    pub fn parse(text: &'t str) -> Result<Self, EditError> {
        let root = Node::parse(text).map_err(EditError::Text)?;
        let style = Style { newline: newline(text), step: step(&root) };
        let scan = Scan::new(text, &root);
        Ok(Self { text, root, scan, style })
    }

    /// The text after `step`, checked to mean what it should.
    pub fn apply(&self, step: &Step) -> Result<String, EditError> {
        let refuse = || EditError::Unsafe { key: step.path.join(".") };
        let mut splices = self.splices(step).ok_or_else(refuse)?;
        splices.sort_by_key(|(range, _)| range.start);
        let mut text = self.text.to_owned();
        for (range, replacement) in splices.into_iter().rev() {
            text.replace_range(range, &replacement);
        }
        let mut expected = self.root.plain();
        expected.apply(&step.path, &step.change);
        // Without its last entry a document is empty.
        let emptied = |plain: &Plain| matches!(plain, Plain::Map(entries) if entries.is_empty());
        let expected =
            if step.path.is_empty() && emptied(&expected) { Plain::Null } else { expected.sorted() };
        let means_expected = Node::parse(&text).is_ok_and(|root| {
            let found = root.plain();
            let found = if emptied(&found) { Plain::Null } else { found.sorted() };
            found == expected
        });
        means_expected.then_some(text).ok_or_else(refuse)
    }

    fn splices(&self, step: &Step) -> Spliced {
        let place = self.place(&step.path)?;
        match (&step.change, &place.node.value) {
            (Change::Replace(value), _) => self.replace(&place, value),
            (Change::PutEntry(key, value), Value::Map(layout, entries)) => match entries.last() {
                None => self.replace(&place, &Resolved::Section(vec![(key.clone(), value.clone())])),
                Some(last) => self.put_entry(&place, *layout, last, (key, value)),
            },
            (Change::PutItem(number, value), Value::List(layout, items)) => match items.last() {
                None => self.replace(&place, &Resolved::List(vec![value.clone()])),
                Some(_) => self.put_item(place.node, *layout, items, *number, value),
            },
            (Change::RemoveEntry(key), Value::Map(layout, entries)) => {
                let index = entries.iter().position(|entry| entry.key == *key)?;
                self.remove_entry(&place, *layout, entries, index)
            }
            (Change::RemoveItem(index), Value::List(layout, items)) => {
                self.remove_item(&place, *layout, items, *index)
            }
            (
                Change::PutEntry(..) | Change::PutItem(..) | Change::RemoveEntry(_) | Change::RemoveItem(_),
                Value::Null | Value::Scalar(_) | Value::List(..) | Value::Map(..),
            ) => None,
        }
    }

    fn place(&self, path: &[String]) -> Option<Place<'_>> {
        let root = Place { node: &self.root, holder: Holder::Root, in_flow: false };
        path.iter().try_fold(root, |place, segment| place.enter(segment))
    }

    fn replace(&self, place: &Place<'_>, value: &Resolved) -> Spliced {
        let node = place.node;
        let block = matches!(node.value, Value::Map(Layout::Block, _) | Value::List(Layout::Block, _));
        let one_line = !self.text[node.span.clone()].contains('\n');
        match place.holder {
            Holder::Root if node.span.is_empty() => {
                Some(vec![self.new_section(&fragment::lines(value, 0, self.style))])
            }
            Holder::Entry(entry) if block && !place.in_flow => self.replace_block(node, entry, value),
            Holder::Entry(entry) if one_line && !place.in_flow && !fragment::is_inline(value) => {
                self.unfold(node, entry, value)
            }
            Holder::Root | Holder::Entry(_) | Holder::Item { .. } => self.replace_inline(place, value),
        }
    }

    /// A value on its key's line becomes lines below it.
    fn unfold(&self, node: &Node, entry: &Entry, value: &Resolved) -> Spliced {
        let colon = self.after_colon(entry)?;
        let end = node.span.end.max(colon);
        if self.text[colon..end].contains('\n') {
            return Some(vec![(node.span.clone(), fragment::flow(value))]);
        }
        let lines = fragment::lines(value, entry.key_at.column - 1 + self.style.step, self.style);
        Some(vec![(colon..end, String::new()), self.lines_at(self.scan.line_end(end), &lines)])
    }

    /// The lines below a key are replaced; the comments among them stay.
    fn replace_block(&self, node: &Node, entry: &Entry, value: &Resolved) -> Spliced {
        let colon = self.after_colon(entry)?;
        let lines = self.scan.line_start(node.span.start)..self.scan.line_end(node.span.end);
        if lines.start < colon || !self.scan.starts_line(node.span.start) {
            return None;
        }
        // Items may stand as far left as the key above them, keys may not.
        let key = entry.key_at.column - 1;
        let indent = match (self.scan.indent(node.span.start), value) {
            (indent, Resolved::Section(_)) if indent <= key => key + self.style.step,
            (indent, _) => indent,
        };
        let mut kept = self.kept_comments(&lines, indent, Trailing::Keep);
        if fragment::is_inline(value) {
            return Some(vec![(colon..colon, format!(" {}", fragment::flow(value))), (lines, kept)]);
        }
        kept.push_str(&fragment::lines(value, indent, self.style));
        Some(vec![(lines, kept)])
    }

    /// The new value stands on one line where the old one began; comments inside it move below.
    fn replace_inline(&self, place: &Place<'_>, value: &Resolved) -> Spliced {
        let span = &place.node.span;
        let flow = fragment::flow(value);
        if span.is_empty() {
            let gap = self.gap(place)?;
            return Some(vec![(gap..gap, format!(" {flow}"))]);
        }
        let indent = self.scan.indent(span.start);
        let kept = self.kept_comments(span, indent, Trailing::Keep);
        let mut splices = vec![(span.clone(), flow)];
        if !kept.is_empty() {
            splices.push(self.lines_at(self.scan.line_end(span.end), &kept));
        }
        Some(splices)
    }

    fn put_entry(
        &self,
        place: &Place<'_>,
        layout: Layout,
        last: &Entry,
        (key, value): (&str, &Resolved),
    ) -> Spliced {
        let end = self.entry_end(last);
        if layout == Layout::Flow {
            return Some(vec![(end..end, format!(", {}", fragment::flow_entry(key, value)))]);
        }
        let lines = fragment::entry_lines(key, value, last.key_at.column - 1, self.style);
        match place.holder {
            Holder::Root => Some(vec![self.new_section(&lines)]),
            Holder::Entry(_) | Holder::Item { .. } => {
                Some(vec![self.lines_at(self.scan.line_end(end), &lines)])
            }
        }
    }

    fn put_item(
        &self,
        node: &Node,
        layout: Layout,
        items: &[Node],
        number: usize,
        value: &Resolved,
    ) -> Spliced {
        if layout == Layout::Flow {
            let flow = fragment::flow(value);
            return Some(match items.get(number) {
                Some(next) => vec![(next.span.start..next.span.start, format!("{flow}, "))],
                None => {
                    let end = items.last()?.span.end;
                    vec![(end..end, format!(", {flow}"))]
                }
            });
        }
        let line = fragment::item_line(value, node.at.column - 1, self.style);
        let before = match number < items.len() {
            true => {
                let dash = self.dashes(node, items)?[number];
                self.scan.starts_line(dash).then(|| self.scan.line_start(dash))?
            }
            false => self.scan.line_end(node.span.end),
        };
        Some(vec![self.lines_at(before, &line)])
    }

    fn remove_entry(&self, place: &Place<'_>, layout: Layout, entries: &[Entry], index: usize) -> Spliced {
        let entry = &entries[index];
        let span = entry.key_span.start..self.entry_end(entry);
        let previous = index.checked_sub(1).map(|before| self.entry_end(&entries[before]));
        if layout == Layout::Flow {
            return self.remove_flow(span, previous);
        }
        if entries.len() == 1 {
            return self.empty(place, "{}");
        }
        if self.scan.starts_line(span.start) {
            return Some(vec![self.without_lines(&span)]);
        }
        // The first entry of a section that is a list item: the next one takes its place behind the dash, or stays
        // below it where comments stand between.
        let next = entries.get(index + 1)?.key_span.start;
        if self.scan.comments_in(&(span.start..next)).next().is_none() {
            return Some(vec![(span.start..next, String::new())]);
        }
        let dash = self.text[..span.start].trim_end_matches(' ').len();
        let (lines, kept) = self.without_lines(&span);
        Some(vec![(dash..lines.end, format!("{}{kept}", self.style.newline))])
    }

    fn remove_item(&self, place: &Place<'_>, layout: Layout, items: &[Node], index: usize) -> Spliced {
        let item = items.get(index)?;
        if layout == Layout::Flow {
            let previous = index.checked_sub(1).map(|before| items[before].span.end);
            return self.remove_flow(item.span.clone(), previous);
        }
        if items.len() == 1 {
            return self.empty(place, "[]");
        }
        let dashes = self.dashes(place.node, items)?;
        let span = dashes[index]..item.span.end.max(dashes[index] + 1);
        self.scan.starts_line(span.start).then(|| vec![self.without_lines(&span)])
    }

    /// An entry or item between brackets goes with one of the commas beside it; comments stay.
    fn remove_flow(&self, span: Range<usize>, previous: Option<usize>) -> Spliced {
        if let Some(comma) = self.scan.comma_after(span.end) {
            let rest = &self.text[comma + 1..];
            let blanks = rest.len() - rest.trim_start_matches(' ').len();
            let ends_line = rest[blanks..].starts_with(['\n', '\r', '#']);
            let after = if ends_line { comma + 1 } else { comma + 1 + blanks };
            return Some(match self.scan.comments_in(&(span.end..comma)).next() {
                None => vec![(span.start..after, String::new())],
                Some(_) => vec![(span, String::new()), (comma..after, String::new())],
            });
        }
        let Some(previous) = previous else { return Some(vec![(span, String::new())]) };
        let comma = self.scan.comma_after(previous)?;
        let between = comma + 1..span.start;
        Some(match self.scan.comments_in(&between).next() {
            None => vec![(comma..span.end, String::new())],
            Some(_) => vec![(comma..comma + 1, String::new()), (span, String::new())],
        })
    }

    /// A block collection that loses its only entry or item.
    fn empty(&self, place: &Place<'_>, nothing: &str) -> Spliced {
        let span = &place.node.span;
        let lines = self.without_lines(span);
        match place.holder {
            Holder::Root => Some(vec![lines]),
            Holder::Entry(entry) if self.scan.starts_line(span.start) => {
                let colon = self.after_colon(entry)?;
                (lines.0.start >= colon).then(|| vec![(colon..colon, format!(" {nothing}")), lines])
            }
            Holder::Entry(_) | Holder::Item { .. } => {
                let kept = self.kept_comments(span, self.scan.indent(span.start), Trailing::Drop);
                Some(vec![
                    (span.clone(), nothing.to_owned()),
                    self.lines_at(self.scan.line_end(span.end), &kept),
                ])
            }
        }
    }

    /// The lines of `span` without what they say; comments on lines of their own stay.
    fn without_lines(&self, span: &Range<usize>) -> Splice {
        let lines = self.scan.line_start(span.start)..self.scan.line_end(span.end);
        let kept = self.kept_comments(&lines, self.scan.indent(span.start), Trailing::Drop);
        (lines, kept)
    }

    /// The comments in `range`, each on a line of its own that is indented by `indent` at most: deeper, they could
    /// become part of a text above them.
    fn kept_comments(&self, range: &Range<usize>, indent: usize, trailing: Trailing) -> String {
        let mut kept = String::new();
        for comment in self.scan.comments_in(range) {
            let own_line = self.scan.starts_line(comment.start);
            let indent = if own_line { self.scan.indent(comment.start).min(indent) } else { indent };
            if own_line || trailing == Trailing::Keep {
                kept.push_str(&" ".repeat(indent));
                kept.push_str(&self.text[comment.clone()]);
                kept.push_str(self.style.newline);
            }
        }
        kept
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

    /// Inserts whole lines at the start of a line, or at the end of a text that lacks its last line break.
    fn lines_at(&self, offset: usize, lines: &str) -> Splice {
        let before = &self.text[..offset];
        let starts_line = before.is_empty() || before == "\u{feff}" || before.ends_with('\n');
        let newline = if starts_line { "" } else { self.style.newline };
        (offset..offset, format!("{newline}{lines}"))
    }

    /// The `-` of each item of a block list; `None` where they cannot be told from other text.
    fn dashes(&self, node: &Node, items: &[Node]) -> Option<Vec<usize>> {
        let mut dashes = vec![node.span.start];
        let mut line = self.scan.line_end(node.span.start);
        while line < node.span.end {
            let indent = self.scan.indent(line);
            let dash = line + indent;
            let next = self.text[dash..].strip_prefix('-');
            if indent + 1 == node.at.column
                && next.is_some_and(|next| next.is_empty() || next.starts_with([' ', '\n', '\r']))
            {
                dashes.push(dash);
            }
            line = self.scan.line_end(line);
        }
        let dashed = self.text[node.span.start..].starts_with('-') && dashes.len() == items.len();
        dashed.then_some(dashes)
    }

    /// Where a value that is not there would begin: behind the colon or dash.
    fn gap(&self, place: &Place<'_>) -> Option<usize> {
        match place.holder {
            Holder::Root => None,
            Holder::Entry(entry) => self.after_colon(entry),
            Holder::Item { list, index } => {
                let Value::List(_, items) = &list.value else { return None };
                Some(self.dashes(list, items)?[index] + 1)
            }
        }
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
}

/// What becomes of a comment behind a value that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trailing {
    Keep,
    Drop,
}

/// A node on the way down, with what surrounds it.
struct Place<'n> {
    node: &'n Node,
    holder: Holder<'n>,
    in_flow: bool,
}

#[derive(Clone, Copy)]
enum Holder<'n> {
    Root,
    Entry(&'n Entry),
    Item { list: &'n Node, index: usize },
}

impl<'n> Place<'n> {
    fn enter(self, segment: &str) -> Option<Self> {
        match &self.node.value {
            Value::Map(layout, entries) => {
                let entry = entries.iter().find(|entry| entry.key == segment)?;
                let in_flow = self.in_flow || *layout == Layout::Flow;
                Some(Place { node: &entry.value, holder: Holder::Entry(entry), in_flow })
            }
            Value::List(layout, items) => {
                let index = segment.parse().ok()?;
                let in_flow = self.in_flow || *layout == Layout::Flow;
                Some(Place {
                    node: items.get(index)?,
                    holder: Holder::Item { list: self.node, index },
                    in_flow,
                })
            }
            Value::Null | Value::Scalar(_) => None,
        }
    }
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
