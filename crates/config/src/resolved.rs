//! A configuration with every default filled in, for `config show`; and values for [`edit`](crate::edit).
//!
//! Printed it is YAML that parses back to the same configuration; serialised it keeps numbers and booleans
//! apart from text, for `--json`.

use std::{fmt, path::Path};

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::tree::Plain;

/// A value as it would be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    Absent,
    Bool(bool),
    Integer(u64),
    Text(String),
    List(Vec<Resolved>),
    Section(Vec<(String, Resolved)>),
}

impl Resolved {
    pub fn section<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Section(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    pub fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    pub(crate) fn path(value: &Path) -> Self {
        Self::text(value.display())
    }

    pub(crate) fn optional(value: Option<impl ToString>) -> Self {
        value.map_or(Self::Absent, Self::text)
    }

    pub fn texts(values: impl IntoIterator<Item: ToString>) -> Self {
        Self::List(values.into_iter().map(Self::text).collect())
    }

    pub(crate) fn plain(&self) -> Plain {
        match self {
            Self::Absent => Plain::Null,
            Self::Bool(value) => Plain::Scalar(value.to_string()),
            Self::Integer(value) => Plain::Scalar(value.to_string()),
            Self::Text(text) => Plain::Scalar(text.clone()),
            Self::List(items) => Plain::List(items.iter().map(Self::plain).collect()),
            Self::Section(entries) => {
                Plain::Map(entries.iter().map(|(key, value)| (key.clone(), value.plain())).collect())
            }
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        match self {
            Self::Absent => writeln!(f, " null"),
            Self::Bool(value) => writeln!(f, " {value}"),
            Self::Integer(value) => writeln!(f, " {value}"),
            Self::Text(text) => writeln!(f, " {}", yaml_scalar(text)),
            Self::List(items) if items.is_empty() => writeln!(f, " []"),
            Self::Section(entries) if entries.is_empty() => writeln!(f, " {{}}"),
            Self::List(items) => {
                writeln!(f)?;
                items.iter().try_for_each(|item| {
                    write!(f, "{:indent$}-", "")?;
                    item.write(f, indent + 2)
                })
            }
            Self::Section(entries) => {
                writeln!(f)?;
                write_entries(f, entries, indent)
            }
        }
    }
}

fn write_entries(f: &mut fmt::Formatter<'_>, entries: &[(String, Resolved)], indent: usize) -> fmt::Result {
    entries.iter().try_for_each(|(key, value)| {
        write!(f, "{:indent$}{}:", "", yaml_scalar(key))?;
        value.write(f, indent + 2)
    })
}

/// `text` as a YAML scalar, bare where that is unmistakable.
pub fn yaml_scalar(text: &str) -> String {
    if is_bare(text) { text.to_owned() } else { double_quoted(text) }
}

/// Safe in block and in flow context: neither an indicator, nor a comment, nor another type to any reader.
fn is_bare(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"/._:+@%=-".contains(&b);
    let start = |b: &u8| b.is_ascii_alphanumeric() || *b == b'/';
    let word = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    text.bytes().all(inner)
        && text.bytes().next().as_ref().is_some_and(start)
        && !text.ends_with(':')
        && !word.contains(&text.to_ascii_lowercase().as_str())
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if is_printable(c) => quoted.push(c),
            c => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Everything but control characters, line separators and the byte order mark (YAML 1.2 §5.1).
fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

impl From<Plain> for Resolved {
    fn from(plain: Plain) -> Self {
        match plain {
            Plain::Null => Self::Absent,
            Plain::Scalar(text) => Self::Text(text),
            Plain::List(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Plain::Map(entries) => {
                Self::Section(entries.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
        }
    }
}

impl From<bool> for Resolved {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Resolved {
    fn from(value: u64) -> Self {
        Self::Integer(value)
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Section(entries) => write_entries(f, entries, 0),
            Self::Absent | Self::Bool(_) | Self::Integer(_) | Self::Text(_) | Self::List(_) => {
                self.write(f, 0)
            }
        }
    }
}

impl Serialize for Resolved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_none(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_u64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Section(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::Node;

    #[test]
    fn json_keeps_types_and_order() {
        let value = Resolved::section([
            ("b", true.into()),
            ("a", 7.into()),
            ("none", Resolved::Absent),
            ("list", Resolved::texts(["1"])),
        ]);
        assert_eq!(serde_json::to_string(&value).unwrap(), r#"{"b":true,"a":7,"none":null,"list":["1"]}"#);
    }

    proptest! {
        #[test]
        fn any_text_survives_as_value_key_and_flow_item(text in any::<String>()) {
            let scalar = yaml_scalar(&text);
            let value = Plain::Scalar(text.clone());
            for (yaml, expected) in [
                (format!("k: {scalar}\n"), Plain::Map(vec![("k".into(), value.clone())])),
                (format!("- {scalar}\n"), Plain::List(vec![value.clone()])),
                (format!("[{scalar}, {scalar}]"), Plain::List(vec![value.clone(), value.clone()])),
            ] {
                prop_assert_eq!(Node::parse(&yaml).unwrap().plain(), expected, "{}", yaml);
            }
            let by_serde: serde_yaml::Value = serde_yaml::from_str(&format!("k: {}\n", double_quoted(&text))).unwrap();
            prop_assert_eq!(by_serde["k"].as_str(), Some(text.as_str()));
        }
    }
}
