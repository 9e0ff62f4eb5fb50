//! Topics, and on which of them a message may come.

use super::Event;

/// The verbs of secret events that have a topic of the secret's own.
const SECRET_VERBS: [&str; 10] = [
    "created",
    "updated",
    "rotated",
    "rotation_started",
    "rotation_failed",
    "key_published",
    "expiring",
    "expired",
    "retired",
    "deleted",
];
const PREFIX_MOST: usize = 1024;

/// Tells whether this can be a secret's name, or a node's: `^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`.
pub(crate) fn is_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    first
        && text.len() <= 128
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The topics under one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    prefix: String,
}

impl Topics {
    /// Returns them, or why this can't be a prefix.
    pub(crate) fn new(prefix: &str) -> Result<Self, &'static str> {
        if prefix.split('/').any(str::is_empty) {
            return Err("a topic prefix has no empty level and no slash at its ends");
        }
        if prefix
            .chars()
            .any(|character| "+#$".contains(character) || character.is_control())
        {
            return Err("a topic prefix holds no wildcard (+ or #), no $ and no control character");
        }
        if prefix.len() > PREFIX_MOST {
            return Err("a topic prefix has at most 1024 bytes");
        }
        Ok(Self {
            prefix: prefix.to_owned(),
        })
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The filter for everything that is said of one secret, its state included.
    pub(crate) fn of_secret(&self, name: &str) -> String {
        format!("{}/secret/{name}/+", self.prefix)
    }

    pub(crate) fn checkpoint(&self, node: &str) -> String {
        format!("{}/checkpoint/{node}", self.prefix)
    }

    pub(crate) fn status(&self, node: &str) -> String {
        format!("{}/status/{node}", self.prefix)
    }

    pub(crate) fn key_rotated(&self) -> String {
        format!("{}/audit/audit/key_rotated", self.prefix)
    }

    /// Tells whether `event` counts on `topic`, which its own content must name.
    pub(crate) fn admit(&self, topic: &str, event: &Event) -> bool {
        let Some(below) = topic
            .strip_prefix(self.prefix.as_str())
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            return false;
        };
        let name = event
            .data
            .get("name")
            .and_then(|name| name.as_str())
            .filter(|name| is_name(name));
        let Some((category, verb)) = event.kind.split_once('.') else {
            return false;
        };
        match (category, verb) {
            ("secret", "state") => name.is_some_and(|name| below == format!("secret/{name}/state")),
            ("audit", "checkpoint") => below == format!("checkpoint/{}", event.node),
            ("daemon", "status") => below == format!("status/{}", event.node),
            ("secret", verb) if SECRET_VERBS.contains(&verb) => name.is_some_and(|name| {
                below == format!("secret/{name}/{verb}") || below == format!("audit/secret/{verb}")
            }),
            (category, verb) => below == format!("audit/{category}/{verb}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        for name in ["a", "A.b_c-1", "0", &"x".repeat(128)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".a", "-a", "_a", "a/b", "a b", "é", "a\n", &"x".repeat(129)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_prefix_has_levels_and_no_wildcards() {
        assert!(Topics::new("jarvis/secretsd").is_ok());
        for prefix in ["", "/a", "a/", "a//b", "a/+", "#", "$SYS", "a\nb", &"x".repeat(1025)] {
            assert!(Topics::new(prefix).is_err(), "{prefix}");
        }
    }
}
