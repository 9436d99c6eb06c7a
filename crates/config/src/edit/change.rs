//! Single changes, and the next one on the way from what a text says to what it should say.

use crate::{
    error::Shape,
    resolved::Resolved as Value,
    tree::{Node, Plain, Value as Found},
};

use super::EditError;

/// One change at the place that [`Step::path`] names.
#[derive(Debug, Clone)]
pub enum Change {
    /// Another value in place of the one that stands there.
    Replace(Value),
    /// One more entry of a section, which may be empty.
    PutEntry(String, Value),
    /// One more item of a list, which may be empty, before the item that has this number.
    PutItem(usize, Value),
    RemoveEntry(String),
    RemoveItem(usize),
}

#[derive(Debug, Clone)]
pub struct Step {
    /// Keys, and numbers of list items, down to the place.
    pub path: Vec<String>,
    pub change: Change,
}

/// The first change that brings `node` closer to `wanted`; `None` when it says so already.
pub fn towards(node: &Node, wanted: &Value, path: &mut Vec<String>) -> Option<Step> {
    if node.plain().sorted() == wanted.plain().sorted() {
        return None;
    }
    let here = |path: &[String], change| Some(Step { path: path.to_vec(), change });
    match (&node.value, wanted) {
        (Found::Map(_, entries), Value::Section(wanted)) => {
            let absent = |(key, _): &&(String, Value)| !entries.iter().any(|entry| entry.key == *key);
            if let Some((key, value)) = wanted.iter().find(absent) {
                return here(path, Change::PutEntry(key.clone(), value.clone()));
            }
            let value_of = |key: &str| wanted.iter().find(|(known, _)| known == key).map(|(_, value)| value);
            if let Some(gone) = entries.iter().find(|entry| value_of(&entry.key).is_none()) {
                return here(path, Change::RemoveEntry(gone.key.clone()));
            }
            entries
                .iter()
                .find_map(|entry| below(&entry.value, value_of(&entry.key)?, entry.key.clone(), path))
        }
        (Found::List(_, items), Value::List(wanted)) => {
            let pairs = items.iter().zip(wanted);
            let differs = |(node, value): (&Node, &Value)| node.plain().sorted() != value.plain().sorted();
            let same = pairs.clone().position(differs).unwrap_or(items.len().min(wanted.len()));
            match items.len().cmp(&wanted.len()) {
                std::cmp::Ordering::Less => here(path, Change::PutItem(same, wanted[same].clone())),
                std::cmp::Ordering::Greater => here(path, Change::RemoveItem(same)),
                std::cmp::Ordering::Equal => below(&items[same], &wanted[same], same.to_string(), path),
            }
        }
        (Found::Null | Found::Scalar(_) | Found::List(..) | Found::Map(..), _) => {
            here(path, Change::Replace(wanted.clone()))
        }
    }
}

fn below(node: &Node, wanted: &Value, segment: String, path: &mut Vec<String>) -> Option<Step> {
    path.push(segment);
    let step = towards(node, wanted, path);
    path.pop();
    step
}

/// The next change on the way to `value` at `path`, sections on the way created.
pub fn towards_at(root: &Node, path: &[&str], value: &Value) -> Result<Option<Step>, EditError> {
    let mut node = root;
    for (depth, segment) in path.iter().enumerate() {
        let above = || path[..depth].iter().map(|&segment| segment.to_owned()).collect();
        let wrong = |expected| EditError::WrongShape {
            key: path[..depth].join("."),
            at: node.at,
            expected,
            found: node.shape(),
        };
        let rest = nested(&path[depth + 1..], value);
        node = match &node.value {
            Found::Map(_, entries) => match entries.iter().find(|entry| entry.key == *segment) {
                Some(entry) => &entry.value,
                None => {
                    let change = Change::PutEntry((*segment).to_owned(), rest);
                    return Ok(Some(Step { path: above(), change }));
                }
            },
            Found::Null => {
                let section = Value::Section(vec![((*segment).to_owned(), rest)]);
                return Ok(Some(Step { path: above(), change: Change::Replace(section) }));
            }
            Found::List(_, items) => {
                let number: usize = segment.parse().map_err(|_| wrong(Shape::Section))?;
                match items.get(number) {
                    Some(item) => item,
                    None if number == items.len() => {
                        return Ok(Some(Step { path: above(), change: Change::PutItem(number, rest) }));
                    }
                    None => {
                        let key = path[..depth].join(".");
                        return Err(EditError::NoSuchItem { key, number, len: items.len() });
                    }
                }
            }
            Found::Scalar(_) => return Err(wrong(Shape::Section)),
        };
    }
    Ok(towards(node, value, &mut path.iter().map(|&segment| segment.to_owned()).collect()))
}

/// `value` below the keys of `path`.
fn nested(path: &[&str], value: &Value) -> Value {
    path.iter().rev().fold(value.clone(), |inner, key| Value::Section(vec![((*key).to_owned(), inner)]))
}

/// The change that removes the entry or item at `path`; `None` where there is none.
pub fn removal(root: &Node, path: &[&str]) -> Option<Step> {
    let (last, above) = path.split_last()?;
    let holder = node_at(root, above)?;
    let path = above.iter().map(|&segment| segment.to_owned()).collect();
    match &holder.value {
        Found::Map(_, entries) => entries
            .iter()
            .any(|entry| entry.key == *last)
            .then(|| Step { path, change: Change::RemoveEntry((*last).to_owned()) }),
        Found::List(_, items) => {
            let number = last.parse().ok().filter(|number| *number < items.len())?;
            Some(Step { path, change: Change::RemoveItem(number) })
        }
        Found::Null | Found::Scalar(_) => None,
    }
}

pub fn node_at<'n>(root: &'n Node, path: &[impl AsRef<str>]) -> Option<&'n Node> {
    path.iter().try_fold(root, |node, segment| child(node, segment.as_ref()))
}

fn child<'n>(node: &'n Node, segment: &str) -> Option<&'n Node> {
    match &node.value {
        Found::Map(_, entries) => entries.iter().find(|e| e.key == segment).map(|e| &e.value),
        Found::List(_, items) => items.get(segment.parse::<usize>().ok()?),
        Found::Null | Found::Scalar(_) => None,
    }
}

impl Plain {
    /// What a text should mean after `step`.
    pub fn apply(&mut self, path: &[String], change: &Change) {
        match (path.split_first(), self) {
            (Some((key, rest)), Self::Map(entries)) => {
                if let Some((_, inner)) = entries.iter_mut().find(|(known, _)| known == key) {
                    inner.apply(rest, change);
                }
            }
            (Some((number, rest)), Self::List(items)) => {
                if let Some(item) = number.parse().ok().and_then(|number: usize| items.get_mut(number)) {
                    item.apply(rest, change);
                }
            }
            (Some(_), Self::Null | Self::Scalar(_)) => {}
            (None, place) => place.apply_here(change),
        }
    }

    fn apply_here(&mut self, change: &Change) {
        match (change, self) {
            (Change::Replace(value), place) => *place = value.plain(),
            (Change::PutEntry(key, value), Self::Map(entries)) => entries.push((key.clone(), value.plain())),
            (Change::PutItem(number, value), Self::List(items)) if *number <= items.len() => {
                items.insert(*number, value.plain());
            }
            (Change::RemoveEntry(key), Self::Map(entries)) => entries.retain(|(known, _)| known != key),
            (Change::RemoveItem(number), Self::List(items)) if *number < items.len() => {
                drop(items.remove(*number));
            }
            (
                Change::PutEntry(..) | Change::PutItem(..) | Change::RemoveEntry(_) | Change::RemoveItem(_),
                _,
            ) => {}
        }
    }

    /// The order of a section's entries means nothing, nor does an empty document say less than `{}`.
    pub fn sorted(self) -> Self {
        match self {
            Self::Map(entries) => {
                let mut entries: Vec<_> =
                    entries.into_iter().map(|(key, value)| (key, value.sorted())).collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                Self::Map(entries)
            }
            Self::List(items) => Self::List(items.into_iter().map(Self::sorted).collect()),
            Self::Null | Self::Scalar(_) => self,
        }
    }
}
