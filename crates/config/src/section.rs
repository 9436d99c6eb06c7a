//! One section of the file: typed reads, and no key that nobody reads.

use crate::{
    error::{ConfigError, Problem, Shape},
    tree::{Entry, Node, Value},
};

/// A section whose keys are all known. A section that is absent or empty reads as all defaults.
pub struct Section<'t> {
    path: String,
    entries: &'t [Entry],
}

impl<'t> Section<'t> {
    pub fn root(node: &'t Node, known: &'static [&'static str]) -> Result<Self, ConfigError> {
        Self::checked(String::new(), Some(node), known)
    }

    /// The top level with other keys ignored: what the version is must be known before the keys are judged.
    pub fn versioned(node: &'t Node) -> Result<Self, ConfigError> {
        Ok(Self { path: String::new(), entries: entries("", Some(node))? })
    }

    pub fn section(&self, key: &str, known: &'static [&'static str]) -> Result<Self, ConfigError> {
        Self::checked(self.path_of(key), self.get(key), known)
    }

    /// A section whose keys are names the user chose: each with the path and node of its value.
    pub fn named(&self, key: &str) -> Result<Vec<Named<'t>>, ConfigError> {
        let path = self.path_of(key);
        let entries = entries(&path, self.get(key))?;
        let named = |entry: &'t Entry| Named { path: join(&path, &entry.key), entry };
        Ok(entries.iter().map(named).collect())
    }

    /// The parsed value of `key`, or `None` where the file does not say.
    pub fn value<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Problem>,
    ) -> Result<Option<T>, ConfigError> {
        self.get(key).map(|node| scalar(&self.path_of(key), node, parse)).transpose()
    }

    /// The parsed items of the list `key`, or `None` where the file does not say.
    pub fn list<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Problem>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let Some(node) = self.get(key) else { return Ok(None) };
        let path = self.path_of(key);
        let Value::List(_, items) = &node.value else { return Err(wrong_shape(&path, node, Shape::List)) };
        let item = |(index, node)| scalar(&format!("{path}[{index}]"), node, &parse);
        items.iter().enumerate().map(item).collect::<Result<_, _>>().map(Some)
    }

    /// As [`Self::list`]; an empty list is an error.
    pub fn non_empty_list<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Problem>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        match self.list(key, parse)? {
            Some(items) if items.is_empty() => Err(self.problem(key, Problem::EmptyList)),
            other => Ok(other),
        }
    }

    /// `problem` at the place of `key`, for checks that need several values.
    pub fn problem(&self, key: &str, problem: Problem) -> ConfigError {
        let at = self.get(key).map(|node| node.at);
        ConfigError { key: self.path_of(key), at, problem: Box::new(problem) }
    }

    fn checked(
        path: String,
        node: Option<&'t Node>,
        known: &'static [&'static str],
    ) -> Result<Self, ConfigError> {
        let entries = entries(&path, node)?;
        match entries.iter().find(|entry| !known.contains(&entry.key.as_str())) {
            None => Ok(Self { path, entries }),
            Some(stranger) => Err(unknown_key(&path, stranger, known)),
        }
    }

    /// A key without a value counts as absent: that is what commenting out everything below it leaves.
    fn get(&self, key: &str) -> Option<&'t Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (!matches!(entry.value.value, Value::Null)).then_some(&entry.value)
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// An entry whose key is the user's own name for something.
pub struct Named<'t> {
    path: String,
    entry: &'t Entry,
}

impl<'t> Named<'t> {
    pub fn name<T>(&self, parse: impl Fn(&str) -> Result<T, Problem>) -> Result<T, ConfigError> {
        let entry = self.entry;
        parse(&entry.key).map_err(|problem| ConfigError::new(&self.path, entry.key_at, problem))
    }

    pub fn value<T>(&self, parse: impl Fn(&str) -> Result<T, Problem>) -> Result<T, ConfigError> {
        scalar(&self.path, &self.entry.value, parse)
    }

    pub fn section(&self, known: &'static [&'static str]) -> Result<Section<'t>, ConfigError> {
        Section::checked(self.path.clone(), Some(&self.entry.value), known)
    }

    pub fn missing(&self, key: &str) -> ConfigError {
        ConfigError::new(join(&self.path, key), self.entry.key_at, Problem::Missing)
    }
}

fn entries<'t>(path: &str, node: Option<&'t Node>) -> Result<&'t [Entry], ConfigError> {
    match node {
        None | Some(Node { value: Value::Null, .. }) => Ok(&[]),
        Some(Node { value: Value::Map(_, entries), .. }) => Ok(entries),
        Some(other) => Err(wrong_shape(path, other, Shape::Section)),
    }
}

fn scalar<T>(path: &str, node: &Node, parse: impl Fn(&str) -> Result<T, Problem>) -> Result<T, ConfigError> {
    let Value::Scalar(text) = &node.value else { return Err(wrong_shape(path, node, Shape::Value)) };
    parse(text).map_err(|problem| ConfigError::new(path, node.at, problem))
}

fn wrong_shape(path: &str, node: &Node, expected: Shape) -> ConfigError {
    ConfigError::new(path, node.at, Problem::WrongShape { expected, found: node.shape() })
}

fn unknown_key(path: &str, entry: &Entry, known: &'static [&'static str]) -> ConfigError {
    let problem = Problem::UnknownKey { nearest: nearest(&entry.key, known), known };
    ConfigError::new(join(path, &entry.key), entry.key_at, problem)
}

/// The key that was probably meant: a third of its letters may be wrong, or one is the start of the other.
fn nearest(text: &str, known: &[&'static str]) -> Option<&'static str> {
    let text: String = text.chars().take(64).collect();
    let shares_start = |key: &str| text.len() > 2 && (key.starts_with(&text) || text.starts_with(key));
    let distance = |key: &str| match shares_start(key) {
        true => 1,
        false => strsim::damerau_levenshtein(&text.to_lowercase(), key),
    };
    let close = |(away, key): &(usize, &str)| *away <= key.len().max(text.len()).div_ceil(3);
    known.iter().map(|key| (distance(key), *key)).filter(close).min().map(|(_, key)| key)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_suggested_only_when_it_is_near() {
        let known = ["addresses", "reservation_interval"];
        assert_eq!(nearest("adresses", &known), Some("addresses"));
        assert_eq!(nearest("Addresses", &known), Some("addresses"));
        assert_eq!(nearest("address", &known), Some("addresses"));
        assert_eq!(nearest("reservationInterval", &known), Some("reservation_interval"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"x".repeat(100_000), &known), None);
    }

    #[test]
    fn a_section_left_empty_reads_as_absent() {
        let root = Node::parse("a:\n  # b: 1\n").unwrap();
        let section = Section::root(&root, &["a"]).unwrap().section("a", &["b"]).unwrap();
        assert_eq!(section.value("b", |t| Ok(t.to_owned())).unwrap(), None);
    }

    #[test]
    fn a_value_of_the_wrong_shape_says_what_was_expected() {
        let root = Node::parse("a: [x]\n").unwrap();
        let section = Section::root(&root, &["a"]).unwrap();
        let error = section.value("a", |t| Ok(t.to_owned())).unwrap_err();
        assert_eq!(error.to_string(), "line 1, column 4: `a`: expected a value, found a list");
    }
}
