//! Lists the public API that a file of rustdoc's JSON describes, a line an item.

use std::{env, error::Error};

use public_api::tokens::Token;

/// Auto traits that say nothing about how a type can be used, or that are unstable.
const OMITTED: [&str; 4] = ["Freeze", "RefUnwindSafe", "UnsafeUnpin", "UnwindSafe"];

fn main() -> Result<(), Box<dyn Error>> {
    let json = env::args_os().nth(1).ok_or("name a file of rustdoc's JSON")?;
    // Blanket implementations are left out, since every type has them. `Send`, `Sync` and `Unpin` are listed, so that a lost one is seen.
    let api = public_api::Builder::from_rustdoc_json(json).omit_blanket_impls(true).build()?;
    for item in api.items() {
        let line = rendered(item.tokens());
        let is_omitted = |name: &str| line.starts_with("impl") && line.contains(&format!("::{name} for "));
        if !OMITTED.iter().any(|name| is_omitted(name)) {
            println!("{line}");
        }
    }
    Ok(())
}

/// The text of an item. `public-api` omits the colon in `IntoIterator<Item: Into<String>>`: only there, a path directly follows a name.
fn rendered<'a>(tokens: impl Iterator<Item = &'a Token>) -> String {
    let mut line = String::new();
    let mut after_name = false;
    for token in tokens {
        if after_name && !matches!(token, Token::Symbol(_) | Token::Whitespace) {
            line.push_str(": ");
        }
        after_name = matches!(token, Token::Identifier(_));
        line.push_str(token.text());
    }
    line
}
