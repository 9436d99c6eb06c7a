//! What stands between the values: comments, commas, line breaks.

use std::ops::Range;

use crate::tree::{Node, Value};

/// A text with the places of its comments.
pub struct Scan<'t> {
    text: &'t str,
    /// From `#` to the end of the line, without the line break; in order.
    comments: Vec<Range<usize>>,
}

impl<'t> Scan<'t> {
    pub fn new(text: &'t str, root: &Node) -> Self {
        let mut scalars = Vec::new();
        collect_scalars(text, root, &mut scalars);
        scalars.sort_by_key(|span| span.start);
        Self { text, comments: comments(text, &scalars) }
    }

    pub fn comments_in(&self, range: &Range<usize>) -> impl Iterator<Item = &Range<usize>> {
        let range = range.clone();
        self.comments.iter().filter(move |comment| range.contains(&comment.start))
    }

    /// Whether nothing but spaces stands before `offset` on its line.
    pub fn starts_line(&self, offset: usize) -> bool {
        self.text[self.line_start(offset)..offset].trim_start_matches('\u{feff}').bytes().all(|b| b == b' ')
    }

    pub fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Past the line break of the line that contains `offset`.
    pub fn line_end(&self, offset: usize) -> usize {
        self.text[offset..].find('\n').map_or(self.text.len(), |newline| offset + newline + 1)
    }

    /// Columns of indentation of the line that contains `offset`.
    pub fn indent(&self, offset: usize) -> usize {
        let line = self.text[self.line_start(offset)..].trim_start_matches('\u{feff}');
        line.len() - line.trim_start_matches(' ').len()
    }

    /// The comma that follows `offset` after nothing but blanks and comments.
    pub fn comma_after(&self, offset: usize) -> Option<usize> {
        let mut at = offset;
        loop {
            let rest = &self.text[at..];
            at += rest.len() - rest.trim_start().len();
            match self.comments.iter().find(|comment| comment.start == at) {
                Some(comment) => at = comment.end,
                None => return self.text[at..].starts_with(',').then_some(at),
            }
        }
    }
}

fn collect_scalars(text: &str, node: &Node, found: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Null | Value::Scalar(_) => found.push(without_header(text, &node.span)),
        Value::List(_, items) => items.iter().for_each(|item| collect_scalars(text, item, found)),
        Value::Map(_, entries) => {
            for entry in entries {
                found.push(entry.key_span.clone());
                collect_scalars(text, &entry.value, found);
            }
        }
    }
}

/// The first line of `|` and `>` may hold a comment; a plain scalar starts with neither.
fn without_header(text: &str, span: &Range<usize>) -> Range<usize> {
    let scalar = &text[span.clone()];
    if !scalar.starts_with(['|', '>']) {
        return span.clone();
    }
    let header = scalar.find('\n').map_or(scalar.len(), |newline| newline + 1);
    span.start + header..span.end
}

fn comments(text: &str, scalars: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut scalars = scalars.iter().filter(|span| !span.is_empty()).peekable();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = text[at..].find('#') {
        let hash = at + offset;
        while scalars.next_if(|span| span.end <= hash).is_some() {}
        if let Some(span) = scalars.peek().filter(|span| span.start <= hash) {
            at = span.end;
            continue;
        }
        let line = text[hash..].find('\n').map_or(text.len(), |newline| hash + newline);
        let end = hash + text[hash..line].trim_end_matches('\r').len();
        let before = text[..hash].chars().next_back();
        let begins = before.is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{feff}'));
        at = if begins { end } else { hash + 1 };
        if begins {
            found.push(hash..end);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_told_from_a_hash_in_a_value() {
        let text = "#1\na#b: 'x # y' #2\nc: | #3\n  # text\nd: [e, #4\n f#g, \"#h\"]\n  #5";
        let scan = Scan::new(text, &Node::parse(text).unwrap());
        let found: Vec<_> = scan.comments_in(&(0..text.len())).map(|range| &text[range.clone()]).collect();
        assert_eq!(found, ["#1", "#2", "#3", "#4", "#5"]);
    }

    #[test]
    fn a_comma_is_found_behind_comments() {
        let text = "[a # , no\n , b]";
        let scan = Scan::new(text, &Node::parse(text).unwrap());
        assert_eq!(scan.comma_after(2), Some(text.rfind(',').unwrap()));
        assert_eq!(scan.comma_after(text.len() - 1), None);
    }
}
