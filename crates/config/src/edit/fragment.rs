//! How a value is written: on one line, or on lines of its own.

use crate::resolved::{Resolved as Value, yaml_scalar};

/// How the surrounding text is laid out.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub newline: &'static str,
    /// Columns per level.
    pub step: usize,
}

/// Whether a value takes one line wherever it stands.
pub fn is_inline(value: &Value) -> bool {
    match value {
        Value::Absent | Value::Bool(_) | Value::Integer(_) | Value::Text(_) => true,
        Value::List(items) => items.is_empty(),
        Value::Section(entries) => entries.is_empty(),
    }
}

/// On one line: `v`, `[v]`, `{k: v}`.
pub fn flow(value: &Value) -> String {
    match value {
        Value::Absent => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Text(text) => yaml_scalar(text),
        Value::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Section(entries) => {
            let entries: Vec<_> = entries.iter().map(|(key, value)| flow_entry(key, value)).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// `k: v`
pub fn flow_entry(key: &str, value: &Value) -> String {
    format!("{}: {}", yaml_scalar(key), flow(value))
}

/// Whole lines of an entry whose key stands at column `indent`.
pub fn entry_lines(key: &str, value: &Value, indent: usize, style: Style) -> String {
    let Style { newline, step } = style;
    let key = yaml_scalar(key);
    match is_inline(value) {
        true => format!("{:indent$}{key}: {}{newline}", "", flow(value)),
        false => format!("{:indent$}{key}:{newline}{}", "", lines(value, indent + step, style)),
    }
}

/// Whole lines of an item whose dash stands at column `indent`.
pub fn item_line(value: &Value, indent: usize, style: Style) -> String {
    format!("{:indent$}- {}{}", "", flow(value), style.newline)
}

/// Whole lines of a value, the first key or dash at column `indent`.
pub fn lines(value: &Value, indent: usize, style: Style) -> String {
    match value {
        Value::Section(entries) if !entries.is_empty() => {
            entries.iter().map(|(key, value)| entry_lines(key, value, indent, style)).collect()
        }
        Value::List(items) if !items.is_empty() => {
            items.iter().map(|item| item_line(item, indent, style)).collect()
        }
        Value::Absent
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Section(_) => format!("{:indent$}{}{}", "", flow(value), style.newline),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Node;

    #[test]
    fn a_value_reads_the_same_on_one_line_and_on_several() {
        let style = Style { newline: "\n", step: 2 };
        let list = Value::texts(["/ip6/::/tcp/0", "x: y", "on"]);
        for value in [
            Value::text("x y"),
            Value::text("on"),
            Value::Bool(true),
            Value::Integer(7),
            Value::Absent,
            Value::List(vec![]),
            Value::Section(vec![]),
            list.clone(),
            Value::List(vec![list.clone(), Value::section([("a", list.clone())])]),
            Value::section([("a", Value::section([("b", list), ("c d", 1.into())])), ("e", Value::Absent)]),
        ] {
            let read = |text: &str| Node::parse(text).unwrap().plain();
            assert_eq!(read(&flow(&value)), value.plain(), "{}", flow(&value));
            assert_eq!(read(&lines(&value, 3, style)), value.plain(), "{}", lines(&value, 3, style));
        }
    }
}
