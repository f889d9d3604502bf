//! Validates JSON against its schema.
//!
//! The caller writes the schema and can influence the answer, so both may be hostile. Nothing is fetched, patterns are matched without backtracking,
//! and the work is estimated first: a validation that could take longer than about a tenth of a second is skipped.

use std::panic::catch_unwind;

use jsonschema::{PatternOptions, ValidationOptions};
use serde_json::Value;

use crate::vocabulary::StructuredResult;

/// The maximum number of values in a schema, after each reference is replaced by its target.
const SCHEMA_VALUES: usize = 10_000;
/// The maximum nesting depth.
const MAX_DEPTH: usize = 256;
/// The maximum product of the number of schema values and the number of answer values.
const WORK: usize = 1 << 20;
/// Patterns, counted like values.
const PATTERNS: usize = 32;
/// The maximum bytes of one compiled pattern.
const PATTERN_BYTES: usize = 1 << 18;
/// The maximum product of the bytes of all compiled patterns and the bytes of the answer. Each byte may visit each state of a pattern.
const PATTERN_WORK: usize = 1 << 31;

/// Whether an answer, which is valid JSON, matches its schema.
pub(super) fn validate(schema: &[u8], answer: &[u8]) -> StructuredResult {
    match catch_unwind(|| is_valid(schema, answer)).ok().flatten() {
        Some(true) => StructuredResult::Valid,
        Some(false) => StructuredResult::SchemaMismatch,
        None => StructuredResult::Unchecked,
    }
}

/// `None`: it cannot be decided.
fn is_valid(schema: &[u8], answer: &[u8]) -> Option<bool> {
    let schema = parse_schema(schema)?;
    let cost = Cost::of(&schema)?;
    let value: Value = serde_json::from_slice(answer).ok()?;
    if cost.values.saturating_mul(count(&value)) > WORK {
        return None;
    }
    let pattern_bytes = PATTERN_WORK / (cost.patterns * answer.len()).max(1);
    let validator = options(pattern_bytes.min(PATTERN_BYTES)).build(&schema).ok()?;
    Some(validator.is_valid(&value))
}

/// vLLM also accepts a schema as a string.
fn parse_schema(bytes: &[u8]) -> Option<Value> {
    match serde_json::from_slice(bytes).ok()? {
        Value::String(text) => serde_json::from_str(&text).ok(),
        schema => Some(schema),
    }
}

fn options(pattern_bytes: usize) -> ValidationOptions<'static> {
    let patterns = PatternOptions::regex().size_limit(pattern_bytes).dfa_size_limit(PATTERN_BYTES);
    jsonschema::options().with_pattern_options(patterns)
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(count).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// The maximum cost of one value of an answer: each value of the schema is checked, and each pattern matched.
struct Cost {
    values: usize,
    patterns: usize,
}

impl Cost {
    /// `None`: it costs too much, or a reference cannot be resolved.
    fn of(schema: &Value) -> Option<Self> {
        let mut expansion = Expansion { root: schema, open: vec!["#"], values: 0, patterns: 0, recursions: 0 };
        expansion.add(schema, 0)?;
        // A recursive reference may be used in several places, and each of them checks the same value of the answer again.
        let times = 1 + expansion.recursions;
        Some(Self { values: expansion.values * times, patterns: expansion.patterns * times })
    }
}

/// A schema, with each reference replaced by its target.
struct Expansion<'a> {
    root: &'a Value,
    /// The references that are being followed. A reference to one of them is recursive, and is not followed again.
    open: Vec<&'a str>,
    values: usize,
    patterns: usize,
    /// The number of recursive references.
    recursions: usize,
}

impl<'a> Expansion<'a> {
    fn add(&mut self, value: &'a Value, depth: usize) -> Option<()> {
        self.values += 1;
        if self.values > SCHEMA_VALUES || depth > MAX_DEPTH {
            return None;
        }
        match value {
            Value::Array(elements) => elements.iter().try_for_each(|element| self.add(element, depth + 1)),
            Value::Object(members) => members.iter().try_for_each(|(key, member)| {
                self.key(key, member, depth)?;
                self.add(member, depth + 1)
            }),
            _ => Some(()),
        }
    }

    fn key(&mut self, key: &str, member: &'a Value, depth: usize) -> Option<()> {
        match (key, member) {
            ("$ref", Value::String(reference)) => self.follow(reference, depth),
            // These change the base of references, and resolving them requires the whole specification.
            ("$id" | "id", Value::String(_)) if depth > 0 => None,
            ("$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$recursiveRef" | "$recursiveAnchor", Value::String(_)) => {
                None
            }
            ("pattern", Value::String(_)) => self.pattern(1),
            ("patternProperties", Value::Object(patterns)) => self.pattern(patterns.len()),
            _ => Some(()),
        }
    }

    fn pattern(&mut self, more: usize) -> Option<()> {
        self.patterns += more;
        (self.patterns <= PATTERNS).then_some(())
    }

    fn follow(&mut self, reference: &'a str, depth: usize) -> Option<()> {
        if self.open.contains(&reference) {
            self.recursions += 1;
            return Some(());
        }
        // An escaped fragment might be another spelling of the same name.
        let pointer = reference.strip_prefix('#').filter(|pointer| !pointer.contains('%'))?;
        let target = self.root.pointer(pointer)?;
        self.open.push(reference);
        self.add(target, depth + 1)?;
        self.open.pop();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use StructuredResult::{SchemaMismatch, Unchecked, Valid};
    use serde_json::json;

    use super::*;

    fn judged(schema: &Value, answer: &Value) -> StructuredResult {
        validate(schema.to_string().as_bytes(), answer.to_string().as_bytes())
    }

    #[test]
    fn an_answer_matches_its_schema_or_it_does_not() {
        let schema = json!({
            "type": "object", "properties": {"city": {"type": "string", "pattern": "^[A-Z]"}, "of": {"$ref": "#/$defs/country"}},
            "required": ["city"], "additionalProperties": false, "$defs": {"country": {"enum": ["Peru", "Chile"]}},
        });
        assert_eq!(judged(&schema, &json!({"city": "Lima", "of": "Peru"})), Valid);
        for wrong in
            [json!({"city": 7}), json!({}), json!({"city": "lima"}), json!({"city": "Lima", "of": "Mars"}), json!([])]
        {
            assert_eq!(judged(&schema, &wrong), SchemaMismatch, "{wrong}");
        }
        let text = Value::String(schema.to_string());
        assert_eq!(judged(&text, &json!({"city": "Lima"})), Valid, "a schema as a string");
        assert_eq!(judged(&text, &json!({"city": 7})), SchemaMismatch);
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_followed_as_deep_as_the_answer_goes() {
        let tree = json!({
            "$ref": "#/$defs/node",
            "$defs": {"node": {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}},
        });
        assert_eq!(judged(&tree, &json!({"children": [{"children": []}, {}]})), Valid);
        assert_eq!(judged(&tree, &json!({"children": [{"children": [7]}]})), SchemaMismatch);
        let root = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert_eq!(judged(&root, &json!({"next": {"next": 7}})), SchemaMismatch);
        let itself = json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"});
        assert_eq!(judged(&itself, &json!({})), Valid);
    }

    #[test]
    fn nothing_is_fetched_and_a_schema_that_does_not_compile_is_unchecked() {
        for schema in [
            json!({"$ref": "http://127.0.0.1:9/schema.json"}),
            json!({"$ref": "file:///etc/hostname"}),
            json!({"$ref": "other.json#/a"}),
            json!({"$ref": "#/$defs/nowhere"}),
            json!({"$ref": "#anchor", "$defs": {"a": {"$anchor": "anchor"}}}),
            json!({"type": "objekt"}),
            json!({"type": "string", "pattern": "(unclosed"}),
            // It could only be matched by backtracking.
            json!({"type": "string", "pattern": "(?=a)b"}),
            json!({"type": "string", "pattern": "((a{1000}){1000}){1000}"}),
            json!({"$schema": "http://127.0.0.1:9/dialect.json", "type": "object"}),
            json!(7),
        ] {
            assert_eq!(judged(&schema, &json!({})), Unchecked, "{schema}");
        }
        assert_eq!(validate(b"{\"type\":", b"{}"), Unchecked);
        assert_eq!(validate(b"{}", b"{"), Unchecked);
    }

    #[test]
    fn a_schema_that_a_few_references_make_huge_is_unchecked() {
        for applicator in ["allOf", "anyOf", "oneOf"] {
            let of = |n: usize| json!({"$ref": format!("#/$defs/a{n}")});
            let mut schemas: serde_json::Map<_, _> =
                (0..40).map(|n| (format!("a{n}"), json!({applicator: [of(n + 1), of(n + 1)]}))).collect();
            schemas.insert("a40".to_owned(), json!({"type": "string"}));
            assert_eq!(judged(&json!({"$defs": schemas, "$ref": "#/$defs/a0"}), &json!({})), Unchecked);
        }
        let mut chain: serde_json::Map<_, _> =
            (0..2000).map(|n| (format!("a{n}"), json!({"$ref": format!("#/$defs/a{}", n + 1)}))).collect();
        chain.insert("a2000".to_owned(), json!({}));
        assert_eq!(judged(&json!({"$defs": chain, "$ref": "#/$defs/a0"}), &json!({})), Unchecked, "too deep");
        let alternatives: Vec<_> = (0..1000).map(|n| json!({"const": n})).collect();
        let many = json!({"items": {"anyOf": alternatives}});
        assert_eq!(judged(&many, &json!([1, 2])), Valid);
        assert_eq!(judged(&many, &json!(vec!["x"; 10_000])), Unchecked, "each element against each alternative");
        let patterns: Vec<_> = (0..=PATTERNS).map(|n| json!({"pattern": format!("{n}")})).collect();
        assert_eq!(judged(&json!({"anyOf": patterns}), &json!("1")), Unchecked);
        assert_eq!(judged(&json!({"anyOf": patterns[1..]}), &json!("1")), Valid);
        let keys = |n: usize| (0..n).map(|n| (n.to_string(), json!({}))).collect::<serde_json::Map<_, _>>();
        assert_eq!(judged(&json!({"patternProperties": keys(PATTERNS)}), &json!({})), Valid);
        assert_eq!(judged(&json!({"patternProperties": keys(PATTERNS + 1)}), &json!({})), Unchecked);
    }

    #[test]
    fn each_value_of_a_schema_is_checked_against_each_of_the_answer_up_to_a_limit() {
        // 1024 values: the schema, the schema of its members, the list, and the 1021 elements of the list.
        let values = json!({"enum": (0..1021).collect::<Vec<_>>()});
        let elements = |n: usize| json!(vec![7; n]);
        let members = |n: usize| Value::Object((0..n).map(|n| (n.to_string(), json!(7))).collect());
        assert_eq!(WORK, 1024 * 1024);
        for (schema, answer) in [
            (json!({"items": values}), &elements as &dyn Fn(usize) -> Value),
            (json!({"additionalProperties": values}), &members),
        ] {
            assert_eq!(judged(&schema, &answer(1023)), Valid);
            assert_eq!(judged(&schema, &answer(1024)), Unchecked);
        }
    }

    #[test]
    fn a_schema_is_as_large_and_as_deep_as_the_limits_allow_and_no_more() {
        let large = |values: usize| json!({"enum": (0..values - 2).collect::<Vec<_>>()});
        assert_eq!(judged(&large(SCHEMA_VALUES), &json!(7)), Valid);
        assert_eq!(judged(&large(SCHEMA_VALUES + 1), &json!(7)), Unchecked);

        // Each list and each schema in it is a level; the first definition is on the second one, and each reference leads to the next.
        let nested = |lists: usize, innermost| (0..lists).fold(innermost, |inner, _| json!({"allOf": [inner]}));
        let deep = |innermost| {
            let levels = (MAX_DEPTH - 4) / 2;
            let (first, second) = (json!({"$ref": "#/$defs/b"}), json!({"$ref": "#/$defs/c"}));
            json!({"$defs": {"a": nested(50, first), "b": nested(50, second), "c": nested(levels - 100, innermost)}})
        };
        assert_eq!(judged(&deep(json!({})), &json!(7)), Valid);
        assert_eq!(judged(&deep(json!({"title": "one level more"})), &json!(7)), Unchecked);
    }

    #[test]
    fn a_pattern_that_is_slow_on_a_long_text_is_unchecked() {
        let schema = json!({"pattern": "[ab]*a[ab]{1000}c"});
        assert_eq!(judged(&schema, &json!("ab".repeat(500))), SchemaMismatch);
        assert_eq!(judged(&schema, &json!("ab".repeat(30_000))), Unchecked);
        let usual = json!({"pattern": r"^[\w.+-]+@[\w-]+\.[\w.-]+$"});
        assert_eq!(judged(&usual, &json!("ab".repeat(30_000))), SchemaMismatch);
        let again: Vec<_> = (0..20).map(|_| json!({"$ref": "#"})).collect();
        let recursive = json!({"pattern": "[ab]*a[ab]{100}c", "properties": {"x": {"allOf": again}}});
        assert_eq!(judged(&recursive, &json!("ab".repeat(500))), SchemaMismatch);
        assert_eq!(judged(&recursive, &json!("ab".repeat(30_000))), Unchecked);
        let patterns: Vec<_> = (0..10).map(|n| json!({"pattern": format!("[ab]*a[ab]{{100}}{n}")})).collect();
        let text = json!("ab".repeat(2_000));
        assert_eq!(judged(&json!({"anyOf": patterns}), &text), SchemaMismatch);
        assert_eq!(judged(&recursive, &text), SchemaMismatch);
        let both = json!({"anyOf": patterns, "properties": {"x": {"allOf": again}}});
        assert_eq!(judged(&both, &text), Unchecked, "each pattern again wherever the schema refers to itself");
    }

    #[test]
    fn a_schema_that_refers_to_itself_in_many_places_is_unchecked_for_a_large_answer() {
        let again: Vec<_> = (0..1000).map(|_| json!({"$ref": "#"})).collect();
        let schema = json!({"properties": {"x": {"allOf": again}}, "not": {"enum": (0..1000).collect::<Vec<_>>()}});
        assert_eq!(judged(&schema, &json!({"x": -1})), Unchecked);
        let clique: serde_json::Map<_, _> = (0..10)
            .map(|n| {
                (
                    format!("a{n}"),
                    json!({"anyOf": (0..10).map(|m| json!({"$ref": format!("#/$defs/a{m}")})).collect::<Vec<_>>()}),
                )
            })
            .collect();
        assert_eq!(judged(&json!({"$defs": clique, "$ref": "#/$defs/a0"}), &json!(7)), Unchecked);
        let twice = json!({"properties": {"x": {"oneOf": [{"$ref": "#"}, {"not": {"$ref": "#"}}]}, "y": false}});
        let deep = (0..100).fold(json!({"y": 1}), |inner, _| json!({"x": inner}));
        assert_eq!(judged(&twice, &deep), Valid, "and it does not take 2^100 steps");
    }

    #[test]
    fn the_deepest_schema_and_the_deepest_answer_fit_a_small_stack() {
        let mut chain: serde_json::Map<_, _> = (0..40)
            .map(|n| {
                (format!("a{n}"), json!({"allOf": [{"properties": {"x": {"$ref": format!("#/$defs/a{}", n + 1)}}}]}))
            })
            .collect();
        chain.insert("a40".to_owned(), json!({}));
        let schema = json!({"$defs": chain, "$ref": "#/$defs/a0"});
        let recursive = json!({"allOf": [{"properties": {"x": {"anyOf": [{"$ref": "#"}]}}}]});
        let deep = (0..120).fold(json!({}), |inner, _| json!({"x": inner}));
        let thread = std::thread::Builder::new().stack_size(1 << 20);
        let judged = move || (judged(&schema, &deep), judged(&recursive, &deep));
        assert_eq!(thread.spawn(judged).unwrap().join().unwrap(), (Valid, Valid));
    }

    #[test]
    fn references_with_another_base_are_unchecked() {
        let moved = json!({"properties": {"a": {"$id": "http://example.com/a", "$ref": "#/x"}}, "x": {}});
        assert_eq!(judged(&moved, &json!({})), Unchecked);
        for (key, name) in [("$id", "http://example.com/a"), ("id", "http://example.com/a"), ("$anchor", "a")] {
            let named = json!({"properties": {"a": {key: name}}});
            assert_eq!(judged(&named, &json!({})), Unchecked, "{key}");
        }
        let named = json!({"$id": "http://example.com/root", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}});
        assert_eq!(judged(&named, &json!({"a": 1})), SchemaMismatch, "its own name is not another base");
    }
}
