//! Changes single fields of a `slo.yaml` and keeps the rest of the text, including comments; a mapping in braces becomes a block only if one of its
//! fields changes. The caller must check the result, because this does not parse YAML.

use std::iter;

const MEASURED: &str = "# measured: ";
const HEAD: &str = "# Measured ";

/// The indentation of a block in a file without any indented line.
const INDENT: usize = 2;

/// Sets the field at the path `keys`, and puts a comment above it, which replaces an earlier comment of the same kind. A key that begins with `- ` is
/// the whole first line of an item of a list. New lines have the indentation of the lines around them.
pub(super) fn set(text: &str, keys: &[&str], value: &str, comment: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let step = lines.iter().map(|line| indent_of(line)).find(|indent| *indent > 0).unwrap_or(INDENT);
    // The block in which the next key is searched, and its indentation.
    let (mut from, mut to, mut indent) = (0, lines.len(), 0);
    for (depth, key) in keys.iter().enumerate() {
        let found = (from..to).find(|at| is_key(&lines[*at], indent, key));
        match (found, keys.get(depth + 1)) {
            (Some(at), None) => {
                replace(&mut lines, at, key, value, comment);
                return joined(&lines);
            }
            (Some(at), Some(next)) => {
                to += unfold(&mut lines, at, step);
                // The block below the key has a deeper indentation; items of a list may have the same indentation as their key.
                to = (at + 1..to).find(|at| ends_block(&lines[*at], indent, is_item(next))).unwrap_or(to);
                from = at + 1;
                let first = lines[from..to].iter().find(|line| has_content(line));
                let deeper = indent + if is_item(key) { INDENT } else { step };
                indent = first.map_or(deeper, |line| indent_of(line));
            }
            (None, _) => {
                // Blank lines and comments before the next block belong to that block.
                let belongs_to_next =
                    |line: &str| !has_content(line) && (line.trim().is_empty() || indent_of(line) < indent);
                while to > from && belongs_to_next(&lines[to - 1]) {
                    to -= 1;
                }
                lines.splice(to..to, new_lines(&keys[depth..], indent, step, value, comment));
                return joined(&lines);
            }
        }
    }
    joined(&lines)
}

/// Puts a line at the top of the text, and removes an earlier line of this kind.
pub(super) fn head(text: &str, line: &str) -> String {
    let rest: Vec<_> = text.lines().filter(|line| !line.starts_with(HEAD)).map(str::to_owned).collect();
    let line = line.strip_prefix("Measured ").unwrap_or(line);
    format!("{HEAD}{line}\n{}", joined(&rest))
}

fn replace(lines: &mut Vec<String>, at: usize, key: &str, value: &str, comment: &str) {
    let indent = " ".repeat(indent_of(&lines[at]));
    let (_, behind) = split_comment(&lines[at]);
    lines[at] = format!("{indent}{key}: {value}{behind}");
    let comment = format!("{indent}{MEASURED}{comment}");
    if at > 0 && lines[at - 1].trim_start().starts_with(MEASURED) {
        lines[at - 1] = comment;
    } else {
        lines.insert(at, comment);
    }
}

/// Converts a mapping in braces on one line, `key: { a: 1, b: 2 } # comment`, to a block. Returns the number of added lines.
fn unfold(lines: &mut Vec<String>, at: usize, step: usize) -> usize {
    let line = &lines[at];
    let (content, comment) = split_comment(line);
    let Some((key, members)) = content.split_once(':').and_then(|(key, value)| {
        let members = value.trim().strip_prefix('{')?.strip_suffix('}')?;
        Some((key, members))
    }) else {
        return 0;
    };
    let margin = " ".repeat(indent_of(line) + step);
    let members: Vec<_> = split(members).into_iter().map(|member| format!("{margin}{member}")).collect();
    let added = members.len();
    let block = iter::once(format!("{key}:{comment}")).chain(members).collect::<Vec<_>>();
    lines.splice(at..=at, block);
    added
}

/// Splits a line into its content and the comment at its end.
fn split_comment(line: &str) -> (&str, &str) {
    line.split_at(line.find(" #").unwrap_or(line.len()))
}

/// Splits the text between the brackets of a mapping or sequence into its members.
fn split(members: &str) -> Vec<&str> {
    let (mut quote, mut depth) = (None, 0);
    let between = |c: char| {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0 && quote.is_none()
    };
    members.split(between).map(str::trim).filter(|member| !member.is_empty()).collect()
}

fn new_lines(keys: &[&str], mut indent: usize, step: usize, value: &str, comment: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        let margin = " ".repeat(indent);
        if number + 1 == keys.len() {
            lines.push(format!("{margin}{MEASURED}{comment}"));
            lines.push(format!("{margin}{key}: {value}"));
        } else if is_item(key) {
            lines.push(format!("{margin}{key}"));
            indent += INDENT;
        } else {
            lines.push(format!("{margin}{key}:"));
            indent += step;
        }
    }
    lines
}

fn is_item(key: &str) -> bool {
    key.starts_with("- ")
}

fn is_key(line: &str, indent: usize, key: &str) -> bool {
    if indent_of(line) != indent {
        return false;
    }
    let line = line.trim();
    if is_item(key) {
        return line == key;
    }
    let rest = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Whether a line is neither blank nor a comment.
fn has_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

fn ends_block(line: &str, indent: usize, of_items: bool) -> bool {
    let is_item_of_it = of_items && indent_of(line) == indent && line.trim_start().starts_with('-');
    has_content(line) && indent_of(line) <= indent && !is_item_of_it
}

fn joined(lines: &[String]) -> String {
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_field_is_changed_in_place() {
        let text = "a:\n  b:\n    c: 1 # mine\n    d: 2\nb:\n  c: 3\n";
        assert_eq!(
            set(text, &["a", "b", "c"], "9", "why"),
            "a:\n  b:\n    # measured: why\n    c: 9 # mine\n    d: 2\nb:\n  c: 3\n"
        );
        assert_eq!(
            set(text, &["b", "c"], "9", "why"),
            "a:\n  b:\n    c: 1 # mine\n    d: 2\nb:\n  # measured: why\n  c: 9\n"
        );
        let once = set(text, &["b", "c"], "9", "why");
        assert_eq!(set(&once, &["b", "c"], "9", "why"), once);
    }

    #[test]
    fn a_new_field_is_added_at_the_end_of_its_block() {
        assert_eq!(set("", &["a", "b"], "1", "why"), "a:\n  # measured: why\n  b: 1\n");
        assert_eq!(
            set("a:\n  b: 1\n\n# About c.\nc:\n  d: 2\n", &["a", "x"], "3", "why"),
            "a:\n  b: 1\n  # measured: why\n  x: 3\n\n# About c.\nc:\n  d: 2\n"
        );
        assert_eq!(set("ab: 1\n", &["a"], "2", "why"), "ab: 1\n# measured: why\na: 2\n");
    }

    #[test]
    fn items_of_a_list_are_identified_by_their_first_line() {
        let one = set("o:\n  - m: [a]\n    x: 1\nz: 1\n", &["o", "- m: [b]", "x"], "2", "why");
        assert_eq!(one, "o:\n  - m: [a]\n    x: 1\n  - m: [b]\n    # measured: why\n    x: 2\nz: 1\n");
        let two = set(&one, &["o", "- m: [a]", "y"], "3", "why");
        assert_eq!(
            two,
            "o:\n  - m: [a]\n    x: 1\n    # measured: why\n    y: 3\n  - m: [b]\n    # measured: why\n    x: 2\nz: 1\n"
        );
    }

    #[test]
    fn lines_are_indented_as_those_around_them() {
        let text = "a:\n    b:\n        c: 1\nd:\n    e: 2\n";
        let changed = set(&set(text, &["a", "b", "x"], "3", "why"), &["d", "f", "g"], "4", "why");
        assert_eq!(
            changed,
            "a:\n    b:\n        c: 1\n        # measured: why\n        x: 3\nd:\n    e: 2\n    f:\n        # measured: why\n        g: 4\n"
        );
        assert_eq!(set(&changed, &["a", "b", "x"], "3", "why"), changed);
        // Each block keeps its own indentation.
        assert_eq!(
            set("a:\n  b: 1\nc:\n   d: 1\n", &["c", "e"], "2", "why"),
            "a:\n  b: 1\nc:\n   d: 1\n   # measured: why\n   e: 2\n"
        );
    }

    #[test]
    fn items_may_be_indented_as_their_key_is() {
        let text = "o:\n- m: [a]\n  x: 1\nz: 1\n";
        let one = set(text, &["o", "- m: [b]", "x"], "2", "why");
        assert_eq!(one, "o:\n- m: [a]\n  x: 1\n- m: [b]\n  # measured: why\n  x: 2\nz: 1\n");
        assert_eq!(
            set(&one, &["o", "- m: [a]", "y", "w"], "3", "why"),
            "o:\n- m: [a]\n  x: 1\n  y:\n    # measured: why\n    w: 3\n- m: [b]\n  # measured: why\n  x: 2\nz: 1\n"
        );
    }

    #[test]
    fn a_mapping_in_braces_becomes_a_block_if_one_of_its_fields_changes() {
        let text = "o:\n  t: { seconds: 2.5, by: [a, b], as: \"x, y\" } # mine\n  g: { seconds: 1 }\nz: {}\n";
        let one = set(text, &["o", "t", "seconds"], "0.4", "why");
        assert_eq!(
            one,
            "o:\n  t: # mine\n    # measured: why\n    seconds: 0.4\n    by: [a, b]\n    as: \"x, y\"\n  g: { seconds: 1 }\nz: {}\n"
        );
        assert_eq!(set(&one, &["z", "new"], "1", "why"), one.replace("z: {}", "z:\n  # measured: why\n  new: 1"));
        assert_eq!(
            set("o: {a: {b: 1, c: 2}, d: 3}\n", &["o", "a", "c"], "4", "why"),
            "o:\n  a:\n    b: 1\n    # measured: why\n    c: 4\n  d: 3\n"
        );
    }

    #[test]
    fn a_second_head_replaces_the_first() {
        let once = head("a: 1\n", "Measured today");
        assert_eq!(once, "# Measured today\na: 1\n");
        assert_eq!(head(&once, "Measured tomorrow"), "# Measured tomorrow\na: 1\n");
    }
}
