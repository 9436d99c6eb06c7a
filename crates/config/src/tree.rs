//! YAML text as a tree that remembers where every value stands.
//!
//! Scalars stay text: what `on`, `007` or `1e3` means is decided by the key that holds it, not by YAML's
//! guesses. Depth and text length are capped before anything is allocated for them.

use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use crate::{
    MAX_TEXT,
    error::{ConfigError, Position, Problem, Shape},
};

const MAX_DEPTH: usize = 16;

#[derive(Debug, Clone)]
pub struct Node {
    pub value: Value,
    /// Bytes of the text. A block collection ends with its last entry, before comments that follow it.
    pub span: Range<usize>,
    pub at: Position,
}

#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(String),
    List(Layout, Vec<Node>),
    Map(Layout, Vec<Entry>),
}

/// `{a: b}` and `[a]` are flow; indented lines are block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Block,
    Flow,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    pub key_at: Position,
    pub value: Node,
}

/// The same tree without positions and layout, to compare two texts by meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plain {
    Null,
    Scalar(String),
    List(Vec<Plain>),
    Map(Vec<(String, Plain)>),
}

impl Node {
    /// The one document of `text`; an empty one is [`Value::Null`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.len() > MAX_TEXT {
            return Err(ConfigError::whole_text(Problem::TooLarge { bytes: text.len(), limit: MAX_TEXT }));
        }
        Builder::new(text).document()
    }

    pub fn shape(&self) -> Shape {
        match &self.value {
            Value::Null => Shape::Nothing,
            Value::Scalar(_) => Shape::Value,
            Value::List(..) => Shape::List,
            Value::Map(..) => Shape::Section,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            Value::Null | Value::List(..) | Value::Map(..) => None,
        }
    }

    /// Entries of a section; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(_, entries) => entries,
            Value::Null | Value::Scalar(_) | Value::List(..) => &[],
        }
    }

    pub fn plain(&self) -> Plain {
        match &self.value {
            Value::Null => Plain::Null,
            Value::Scalar(text) => Plain::Scalar(text.clone()),
            Value::List(_, items) => Plain::List(items.iter().map(Self::plain).collect()),
            Value::Map(_, entries) => {
                Plain::Map(entries.iter().map(|e| (e.key.clone(), e.value.plain())).collect())
            }
        }
    }
}

type Located<'t> = (Event<'t>, Span);

struct Builder<'t> {
    text: &'t str,
    events: Parser<'t, StrInput<'t>>,
    /// Byte offset of each character, because the parser counts characters.
    offsets: Vec<usize>,
    depth: usize,
}

impl<'t> Builder<'t> {
    fn new(text: &'t str) -> Self {
        let offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
        Self { text, events: Parser::new_from_str(text), offsets, depth: 0 }
    }

    fn document(mut self) -> Result<Node, ConfigError> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) if root.is_some() => return Err(feature("several documents", span)),
                Event::DocumentStart(_) => {
                    let first = self.next()?;
                    root = Some(self.node(first)?);
                }
                Event::StreamEnd => break,
                Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::SequenceEnd
                | Event::MappingStart(..)
                | Event::MappingEnd => return Err(syntax("a value outside the document", span.start)),
            }
        }
        let nothing = || Node { value: Value::Null, span: 0..0, at: Position { line: 1, column: 1 } };
        Ok(root.unwrap_or_else(nothing))
    }

    fn next(&mut self) -> Result<Located<'t>, ConfigError> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(scan_error(&error)),
            None => {
                Err(ConfigError::whole_text(Problem::Syntax { reason: "the text ends too early".into() }))
            }
        }
    }

    fn node(&mut self, (event, span): Located<'t>) -> Result<Node, ConfigError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_decorated(anchor, tag.is_some(), span)?;
                Ok(self.scalar(&text, style, span))
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_decorated(anchor, tag.is_some(), span)?;
                self.nested(span, Self::list)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_decorated(anchor, tag.is_some(), span)?;
                self.nested(span, Self::map)
            }
            Event::Alias(_) => Err(feature("aliases (`*name`)", span)),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => Err(syntax("a value is missing", span.start)),
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, span: Span) -> Node {
        let null = style == ScalarStyle::Plain && matches!(text, "" | "~" | "null" | "Null" | "NULL");
        let value = if null { Value::Null } else { Value::Scalar(text.to_owned()) };
        Node { value, span: self.scalar_bytes(style, span), at: position(span.start) }
    }

    /// The parser's spans take in a comment after a quoted scalar and the blank lines after `|` and `>`, but not
    /// these themselves.
    fn scalar_bytes(&self, style: ScalarStyle, span: Span) -> Range<usize> {
        let bytes = self.bytes(span);
        let text = &self.text[bytes.clone()];
        match style {
            ScalarStyle::DoubleQuoted | ScalarStyle::SingleQuoted => {
                bytes.start..bytes.start + quoted_len(text)
            }
            ScalarStyle::Plain => bytes.start..bytes.start + text.trim_end().len(),
            ScalarStyle::Literal | ScalarStyle::Folded => {
                let end = bytes.start + text.trim_end().len();
                block_header(self.text, bytes.start).unwrap_or(bytes.start)..end
            }
        }
    }

    fn nested(
        &mut self,
        start: Span,
        read: fn(&mut Self, Span) -> Result<Node, ConfigError>,
    ) -> Result<Node, ConfigError> {
        if self.depth == MAX_DEPTH {
            return Err(ConfigError::new("", position(start.start), Problem::TooDeep { limit: MAX_DEPTH }));
        }
        self.depth += 1;
        let node = read(self, start)?;
        self.depth -= 1;
        Ok(node)
    }

    fn list(&mut self, start: Span) -> Result<Node, ConfigError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                let last = items.last().map(|item: &Node| item.span.end);
                let layout = layout(start);
                let first = items.first().map(|item| item.span.start);
                let mut list = self.collection(Value::List(layout, items), layout, last, start);
                let dash =
                    ["- ", "-\n", "-\r"].iter().any(|dash| self.text[list.span.start..].starts_with(dash));
                if layout == Layout::Block && (!dash || first == Some(list.span.start)) {
                    self.begin_at_dash(&mut list);
                }
                return Ok(list);
            }
            let mut item = self.node((event, span))?;
            if layout(start) == Layout::Block {
                self.behind_dash(&mut item);
            }
            items.push(item);
        }
    }

    fn map(&mut self, start: Span) -> Result<Node, ConfigError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                let last = entries.last().map(|e| e.value.span.end.max(e.key_span.end));
                let layout = layout(start);
                return Ok(self.collection(Value::Map(layout, entries), layout, last, start));
            }
            let (key, key_span, key_at) = self.key((event, span))?;
            if let Some(first) = seen.insert(key.clone(), key_at) {
                return Err(ConfigError::new(key, key_at, Problem::Duplicate { first }));
            }
            let next = self.next()?;
            let mut value = self.node(next)?;
            self.behind_colon(key_span.end, &mut value);
            entries.push(Entry { key, key_span, key_at, value });
        }
    }

    fn key(&mut self, (event, span): Located<'t>) -> Result<(String, Range<usize>, Position), ConfigError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_decorated(anchor, tag.is_some(), span)?;
                Ok((text.into_owned(), self.scalar_bytes(style, span), position(span.start)))
            }
            Event::Alias(_) => Err(feature("aliases (`*name`)", span)),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd => Err(feature("lists and sections as keys", span)),
        }
    }

    fn collection(&self, value: Value, layout: Layout, last: Option<usize>, start: Span) -> Node {
        let from = self.byte(start.start);
        let to = match (layout, last) {
            (Layout::Block, Some(last)) => last.max(from),
            (Layout::Block, None) => from,
            (Layout::Flow, last) => self.after_bracket(last.unwrap_or(from + 1)),
        };
        Node { value, span: from..to, at: position(start.start) }
    }

    /// A list that is indented no further than its key begins for the parser with its first item.
    fn begin_at_dash(&self, list: &mut Node) {
        let Some(dash) = self.dash_before(list.span.start) else { return };
        let above = &self.text[..dash];
        let line = above.rsplit('\n').next().unwrap_or_default();
        let column = line.trim_start_matches('\u{feff}').chars().count() + 1;
        list.at = Position { line: above.matches('\n').count() + 1, column };
        list.span.start = dash;
    }

    /// The `-` before `offset`, with nothing but blanks and comments between.
    fn dash_before(&self, offset: usize) -> Option<usize> {
        let mut before = &self.text[..offset];
        loop {
            before = before.trim_end_matches([' ', '\n', '\r']);
            if before.ends_with('-') {
                return Some(before.len() - 1);
            }
            let line = before.rfind('\n').map_or(0, |newline| newline + 1);
            before = &before[..line + before[line..].find('#')?];
        }
    }

    /// A value that is not there stands behind its colon; the parser has it where the next token is.
    fn behind_colon(&self, key_end: usize, value: &mut Node) {
        let rest = &self.text[key_end..];
        if value.span.is_empty() && rest.trim_start_matches(' ').starts_with(':') {
            let colon = key_end + rest.find(':').unwrap_or_default() + 1;
            value.span = colon..colon;
        }
    }

    /// The same behind the dash of a list.
    fn behind_dash(&self, item: &mut Node) {
        if item.span.is_empty()
            && let Some(dash) = self.dash_before(item.span.start)
        {
            item.span = dash + 1..dash + 1;
        }
    }

    /// Past the bracket that closes a collection whose last entry ends at `at`; only blanks, commas and comments
    /// stand between. The bracket's own event may point elsewhere.
    fn after_bracket(&self, mut at: usize) -> usize {
        loop {
            let rest = &self.text[at..];
            let inner = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',' || c == ':');
            at += rest.len() - inner.len();
            match inner.chars().next() {
                Some('#') => at += inner.find('\n').unwrap_or(inner.len()),
                Some(']' | '}') => return at + 1,
                Some(_) | None => return at,
            }
        }
    }

    fn bytes(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start);
        start..self.byte(span.end).max(start)
    }

    fn byte(&self, marker: Marker) -> usize {
        self.offsets.get(marker.index()).copied().unwrap_or(self.text.len())
    }
}

/// Up to and including the closing quote of the quoted scalar that `text` starts with.
fn quoted_len(text: &str) -> usize {
    let mut bytes = text.bytes().enumerate();
    let Some((_, quote)) = bytes.next() else { return 0 };
    while let Some((index, byte)) = bytes.next() {
        let doubled = quote == b'\'' && byte == quote && text.as_bytes().get(index + 1) == Some(&quote);
        let escaping = quote == b'"' && byte == b'\\';
        if doubled || escaping {
            bytes.next();
        } else if byte == quote {
            return index + 1;
        }
    }
    text.len()
}

/// The `|` or `>` of the block scalar whose content starts at `content`.
fn block_header(text: &str, content: usize) -> Option<usize> {
    let above = text[..content].trim_end_matches(' ').trim_end();
    let line = above.rfind('\n').map_or(0, |newline| newline + 1);
    let comments = above[line..].match_indices(" #").map(|(offset, _)| line + offset);
    comments.chain([above.len()]).find_map(|end| {
        let header =
            text[line..end].trim_end().trim_end_matches(|c: char| matches!(c, '+' | '-' | '1'..='9'));
        header.ends_with(['|', '>']).then(|| line + header.len() - 1)
    })
}

/// Block collections have no opening character, so their first event covers nothing.
fn layout(start: Span) -> Layout {
    if start.is_empty() { Layout::Block } else { Layout::Flow }
}

fn refuse_decorated(anchor: usize, tagged: bool, span: Span) -> Result<(), ConfigError> {
    match (anchor, tagged) {
        (0, false) => Ok(()),
        (_, true) => Err(feature("tags (`!type`)", span)),
        (_, false) => Err(feature("anchors (`&name`)", span)),
    }
}

fn feature(feature: &'static str, span: Span) -> ConfigError {
    ConfigError::new("", position(span.start), Problem::Feature { feature })
}

fn syntax(reason: &str, at: Marker) -> ConfigError {
    ConfigError::new("", position(at), Problem::Syntax { reason: reason.to_owned() })
}

fn scan_error(error: &ScanError) -> ConfigError {
    syntax(error.info(), *error.marker())
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_value_knows_its_place_also_after_letters_of_several_bytes() {
        let text = "\u{feff}a: \"é\"\r\nb:\r\n  c: [x, \"y\"] # ä\r\n";
        let root = Node::parse(text).unwrap();
        let c = &root.entries()[1].value.entries()[0];
        assert_eq!(&text[c.key_span.clone()], "c");
        assert_eq!(c.key_at, Position { line: 3, column: 3 });
        assert_eq!(&text[c.value.span.clone()], "[x, \"y\"]");
    }

    #[test]
    fn a_block_ends_before_the_comments_that_follow_it() {
        let text = "a:\n  - x\n  # about b\nb: |\n  long\n\n\nc:\n";
        let root = Node::parse(text).unwrap();
        assert_eq!(&text[root.entries()[0].value.span.clone()], "- x");
        assert_eq!(&text[root.entries()[1].value.span.clone()], "|\n  long");
    }

    #[test]
    fn a_list_begins_at_its_first_dash_also_when_it_is_not_indented() {
        for (text, column) in [("a:\n- x\n- y", 1), ("a:\n  - x", 3), ("a:\n-\n  - x", 1), ("a:\n- - -1", 1)]
        {
            let root = Node::parse(text).unwrap();
            let list = &root.entries()[0].value;
            assert_eq!(list.at, Position { line: 2, column }, "{text:?}");
            assert_eq!(list.span.start, "a:\n".len() + column - 1, "{text:?}");
        }
    }

    #[test]
    fn a_block_scalar_begins_at_its_indicator() {
        for (text, scalar) in [
            ("a: |\n  x\n\n", "|\n  x"),
            ("a: >-2 # b > c #d\n\n  x\nb: c", ">-2 # b > c #d\n\n  x"),
            ("\"a #b\": |+ # c\n x\n", "|+ # c\n x"),
            ("- |\n  # x\n- y", "|\n  # x"),
        ] {
            let root = Node::parse(text).unwrap();
            let node = match &root.value {
                Value::List(_, items) => &items[0],
                Value::Map(_, entries) => &entries[0].value,
                Value::Null | Value::Scalar(_) => panic!("{text:?}"),
            };
            assert_eq!(&text[node.span.clone()], scalar);
        }
    }

    #[test]
    fn a_quoted_scalar_ends_at_its_closing_quote() {
        for quoted in [r#""a""#, r#""a\"b\\""#, "'a'", "'it''s'", "'a\\'", r#""""#] {
            let text = format!("k: {quoted}  # \"c' \nl: {quoted} \n{quoted} : {quoted}");
            let root = Node::parse(&text).unwrap();
            for entry in root.entries() {
                assert_eq!(&text[entry.value.span.clone()], quoted);
            }
            assert_eq!(&text[root.entries()[2].key_span.clone()], quoted);
        }
    }

    #[test]
    fn what_makes_a_file_read_differently_than_it_looks_is_refused() {
        for (text, line, column) in [
            ("a: &x 1\n", 1, 4),
            ("a: 1\nb: *x\n", 2, 4),
            ("a: !!str 1\n", 1, 4),
            ("a: 1\n---\nb: 2\n", 2, 1),
            ("a: 1\nb: 2\na: 3\n", 3, 1),
            ("[a]: 1\n", 1, 1),
            ("a: [1,\n", 2, 1),
            ("a: 1\n  b: 2\n", 2, 4),
        ] {
            let error = Node::parse(text).unwrap_err();
            assert_eq!(error.at, Some(Position { line, column }), "{text:?}: {error}");
        }
    }

    #[test]
    fn depth_and_length_are_capped() {
        for text in ["[".repeat(100), "- ".repeat(100_000)] {
            let deep = Node::parse(&text).unwrap_err();
            assert!(matches!(*deep.problem, Problem::TooDeep { limit: MAX_DEPTH }), "{deep}");
        }
        assert!(Node::parse(&"[".repeat(100_000)).is_err());
        let long = Node::parse(&" ".repeat(MAX_TEXT + 1)).unwrap_err();
        assert!(matches!(*long.problem, Problem::TooLarge { limit: MAX_TEXT, .. }));
    }

    #[test]
    fn the_tree_means_what_another_yaml_parser_reads() {
        let text = "a: 'x y'\nb:\n- 1st\n- \"q\\tq\"\nc: {d: , e: [f, g]}\nh: |\n  two\n  lines\ni: ~\n";
        assert_eq!(Node::parse(text).unwrap().plain(), from_serde(&serde_yaml::from_str(text).unwrap()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_but_never_panics(text in "[ -~\u{e9}\u{feff}\\n\\r\\t]{0,200}") {
            let _ = Node::parse(&text);
        }

        #[test]
        fn any_yaml_like_text_is_read_or_refused_but_never_panics(
            pieces in prop::collection::vec(prop::sample::select(
                vec!["a", ":", ": ", "- ", "-", "\n", "\r\n", "  ", "\t", "[", "]", "{", "}", ",", "#", "'", "\"",
                     "|", ">", "&x", "*x", "!", "%", "---", "...", "? ", "\\", "~", "é", "\u{feff}", "\u{85}"]),
            0..60)
        ) {
            if let Ok(root) = Node::parse(&pieces.concat()) {
                assert_spans_nest(&root, &pieces.concat());
            }
        }
    }

    /// Spans must be usable as slices of the text, whatever the text is.
    fn assert_spans_nest(node: &Node, text: &str) {
        assert!(text.get(node.span.clone()).is_some());
        if let Value::List(_, items) = &node.value {
            items.iter().for_each(|item| assert_spans_nest(item, text));
        }
        for entry in node.entries() {
            assert!(text.get(entry.key_span.clone()).is_some());
            assert_spans_nest(&entry.value, text);
        }
    }

    fn from_serde(value: &serde_yaml::Value) -> Plain {
        use serde_yaml::Value as V;
        match value {
            V::Null => Plain::Null,
            V::Bool(b) => Plain::Scalar(b.to_string()),
            V::Number(n) => Plain::Scalar(n.to_string()),
            V::String(s) => Plain::Scalar(s.clone()),
            V::Sequence(items) => Plain::List(items.iter().map(from_serde).collect()),
            V::Mapping(map) => {
                Plain::Map(map.iter().map(|(k, v)| (k.as_str().unwrap().to_owned(), from_serde(v))).collect())
            }
            V::Tagged(_) => unreachable!("the test text has no tags"),
        }
    }
}
